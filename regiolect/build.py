"""Build one region's engine: the typed graph of its policy's precision, compiled by its target's backend."""

from __future__ import annotations

from functools import partial

from regiolect.contracts import (
    BuildRequest,
    CalibrationTable,
    EngineArtifact,
    ExportedModel,
    Precision,
    ValidatedCalibration,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ForeignCalibration
from regiolect.graphs import typed_graph
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest
from regiolect.remember import remember
from regiolect.storage import Store


def needs_calibration(precision: Precision) -> bool:
    """Whether a graph of this precision cannot be made without a calibration table."""
    return precision is Precision.INT8


def build_engine(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    table: CalibrationTable | None,
    store: Store,
    *,
    force: bool = False,
) -> EngineArtifact:
    """Emit the typed graph that the policy asks for and have the target's backend compile it.

    An engine that was built under this key and never came to the gate, because a machine died in between, is taken up.

    Args:
        data: proof that the region's data passed its checks.
        table: for INT8, the region's own calibration; None for the float precisions.
        force: build it again all the same.

    Raises:
        ForeignCalibration: the table is sealed to another region, model, preprocessing or dataset.
        EngineError: the backend is missing or refuses the graph.
    """
    from regiolect.calibrate import require_own

    if data.region != request.region:
        raise ForeignCalibration(
            expected=f"data of region {request.region!r}",
            found=f"data of region {data.region!r}",
            remedy=f"run on local data: regiolect run {request.model} --regions {request.region}",
        )
    if table is not None:
        require_own(table.seal, region=request.region, model=model, dataset=data.dataset.calibration)
    chosen = backend(request.target.backend)
    precision = request.policy.precision
    graph = typed_graph(model, request.region, precision, chosen.recipe(precision), table, store)
    wanted = BuildRequest(
        model=request.name,
        region=request.region,
        target=request.target,
        precision=precision,
        graph=graph,
        inputs=model.inputs,
        outputs=model.outputs,
        profile=request.policy.batch,
        performance=request.policy.performance,
        policy=request.policy.digest(),
        build_key=request.build_key,
    )
    calibration = digest_of(table) if table is not None else None
    inputs = {"request": digest_of(wanted), "calibration": calibration or "none"}
    make = partial(chosen.build, wanted, store, calibration=calibration)
    return remember(store, "engines", inputs, EngineArtifact, make, force=force)

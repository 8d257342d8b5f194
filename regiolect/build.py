"""Build one region's engine: the typed graph of its policy's precision, compiled by its target's backend."""

from __future__ import annotations

from regiolect.contracts import (
    BuildRequest,
    ChosenGraph,
    EngineArtifact,
    Execution,
    ExportedModel,
    ValidatedCalibration,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ForeignCalibration, InvalidSetting
from regiolect.evaluate.agreement import require_agreement
from regiolect.graphs import typed_graph
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest, as_signed
from regiolect.precision import wider_or_equal
from regiolect.storage import Store
from regiolect.storage.stage_cache import cached


def build_engine(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    chosen: ChosenGraph,
    store: Store,
    *,
    force: bool = False,
) -> EngineArtifact:
    """Emit the typed graph that was chosen and have the target's backend compile it.

    It is kept once it answers as that graph does (`regiolect.evaluate.agreement`). An engine that was built under this
    key and never came to the gate, because a machine died in between, is taken up.

    Args:
        data: proof that the region's data passed its checks.
        chosen: how the graph is written, and the region's own ranges where it needs them.
        force: build it again all the same.

    Raises:
        ForeignCalibration: the table is sealed to another region, model, preprocessing or dataset.
        InvalidSetting: the graph would be coarser than the policy's precision.
        EngineError: the backend is missing or refuses the graph, or the engine cannot be loaded where it should run.
        EngineMiscomputes: the engine answers otherwise than its graph.
        ReferenceFailed: the graph itself cannot be run.
    """
    from regiolect.calibrate import table_to_bytes
    from regiolect.provenance import require_own

    if data.region != request.region:
        raise ForeignCalibration(
            expected=f"data of region {request.region!r}",
            found=f"data of region {data.region!r}",
            remedy=f"run on local data: regiolect run {request.address} --regions {request.region}",
        )
    choice, table = chosen.choice, chosen.table
    if not wider_or_equal(choice.precision, request.policy.precision):
        raise InvalidSetting(
            expected=f"a graph at least as wide as the {request.policy.precision} of {request.region!r}",
            found=choice.summary(),
            remedy="choose the graph with regiolect.repair, which goes by the policy",
        )
    if table is not None:
        require_own(table.seal, region=request.region, model=model, dataset=data.dataset.calibration)
    builder = backend(request.target.backend)
    precision = choice.precision
    recipe = builder.recipe(precision, request.arithmetic)
    graph = typed_graph(model, request.region, precision, recipe, table, store, choice.wider)
    wanted = BuildRequest(
        model=request.name,
        region=request.region,
        target=request.target,
        precision=precision,
        graph=graph,
        inputs=model.inputs,
        outputs=model.outputs,
        profile=request.policy.batch,
        shapes=request.policy.shapes_for(model.inputs),
        performance=request.policy.performance,
        policy=as_signed(request.policy, store).digest(),
        build_key=request.build_key,
        tf32=request.policy.allows(Execution.TF32),
        arithmetic=request.arithmetic,
    )
    # Kept by content, so that the digest that the engine names can be looked up.
    calibration = store.put_bytes(table_to_bytes(table)).digest if table is not None else None
    inputs = {"request": digest_of(wanted), "calibration": calibration or "none"}

    def make() -> EngineArtifact:
        engine = builder.build(wanted, store, calibration=calibration)
        require_agreement(builder, engine, model, data.dataset.calibration, store)
        return engine

    return cached(store, "engines", inputs, EngineArtifact, make, force=force)

"""Drills: deliberate attempts to get a bad engine past Regiolect. A drill passes when it is refused.

They run on the user's own model and data, so that a release shows that its refusals work where it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regiolect.contracts import (
    CalibrationTable,
    ChampionComparison,
    ChosenGraph,
    Contract,
    Decision,
    Drill,
    EvaluationResult,
    ExportedModel,
    GateDecision,
    GraphChoice,
    Precision,
    RegionOutcome,
    short,
)
from regiolect.engines.catalog import backend
from regiolect.errors import ForeignCalibration, InvalidResults
from regiolect.errors.redaction import redacted
from regiolect.evaluate.results import PairedResults
from regiolect.gate.champion import judge_against
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest, has_classes
from regiolect.precision import traits
from regiolect.storage import Store

FOREIGN = "foreign calibration"
OVER_THRESHOLD = "over its threshold"
WORSE = "worse model"
# A range 32 times too narrow costs five of INT8's seven bits of magnitude: no network passes a gate with it.
DAMAGE = 1 / 32


class DrillResults(Contract):
    """The drills of one region."""

    drills: tuple[Drill, ...]


def candidates(
    requests: Sequence[RegionRequest], outcomes: Mapping[str, RegionOutcome]
) -> tuple[RegionRequest, RegionRequest] | None:
    """The region to drill and the region whose calibration it is offered: the first INT8 region that was gated, and
    the first other region whose data passed their checks. None when there are no two such regions."""
    drilled = next(
        (r for r in requests if traits(r.policy.precision).quantized and outcomes[r.build_key].gate is not None), None
    )
    donor = next(
        (r for r in requests if drilled and r.region != drilled.region and outcomes[r.build_key].engine is not None),
        None,
    )
    return (drilled, donor) if drilled is not None and donor is not None else None


def with_champion(requests: Sequence[RegionRequest], outcomes: Mapping[str, RegionOutcome]) -> RegionRequest | None:
    """The first region with an engine that may be served, which a worse model is to replace; None without any."""
    return next((r for r in requests if outcomes[r.build_key].decision is Decision.APPROVED), None)


def drill_key(request: RegionRequest, donor: RegionRequest, served: RegionRequest | None) -> str:
    """Under what the results are kept."""
    own = {} if served is None else {"served": served.build_key}
    return digest_of({"region": request.build_key, "donor": donor.build_key, **own})


def drill_request(request: RegionRequest, name: str) -> RegionRequest:
    """The same request under a build key of its own, so that nothing of a drill is mistaken for a real build; in the
    class of arithmetic of this machine, which runs the drill."""
    key = digest_of({"drill": name, "of": request.build_key})
    here = backend(request.target.backend).arithmetic() if has_classes(request.policy, request.target) else None
    return request.model_copy(update={"build_key": key, "arithmetic": here})


def stated_graph(request: RegionRequest, table: CalibrationTable) -> ChosenGraph:
    """The graph that the policy asks for, with this table."""
    return ChosenGraph(choice=request.policy.stated_choice(), table=table)


def damaged(table: CalibrationTable) -> CalibrationTable:
    """The table with every threshold made far too narrow, its seal still right."""
    tensors = {
        name: tensor.model_copy(update={"threshold": tensor.threshold * DAMAGE})
        for name, tensor in table.tensors.items()
    }
    return table.model_copy(update={"tensors": tensors})


def plain_graph() -> ChosenGraph:
    """FP32, which needs no calibration and loses nothing against its own reference."""
    return ChosenGraph(choice=GraphChoice(precision=Precision.FP32), table=None)


def worsened(model: ExportedModel, store: Store) -> ExportedModel:
    """The model with the values of every weight matrix and kernel shuffled, the same way each time: in FP32 as good as
    its own reference, and no good at all. Their distribution stays, so that nothing overflows.

    Args:
        store: where the model's graph is, and where the other one is kept.

    Raises:
        InvalidOnnx: the graph cannot be read.
    """
    import numpy as np
    from onnx import numpy_helper

    from regiolect.graphs.protos import load

    graph, rng = load(store.path_of(model.reference)), np.random.default_rng(0)
    for weight in graph.graph.initializer:
        if len(weight.dims) > 1:
            values = numpy_helper.to_array(weight)
            shuffled = rng.permutation(values.reshape(-1)).reshape(values.shape)
            weight.CopyFrom(numpy_helper.from_array(shuffled, weight.name))
    blob = store.put_bytes(graph.SerializeToString())
    return model.model_copy(update={"graph": blob, "reference": blob, "source": digest_of({WORSE: model.source})})


def beside_its_own(
    request: RegionRequest, served: RegionOutcome, worse: EvaluationResult, store: Store
) -> ChampionComparison:
    """The worse model's engine against the one that the release has for that region, as the registry would ask.

    Raises:
        InvalidResults, StorageError: the results of one of them cannot be read.
    """
    if served.evaluation is None:
        raise InvalidResults(
            expected=f"the per-sample results of {request.region}'s own engine",
            found="none",
            remedy="run the drills once the region's engine was judged",
        )
    rows = [PairedResults.from_csv(store.path_of(each.results)) for each in (served.evaluation, worse)]
    return judge_against(
        request.policy.accuracy,
        *rows,
        target=request.target.name,
        engine=worse.build_key,
        champion=f"{request.region}'s own engine",
        served_key=served.build_key,
    )


def judge_worse(request: RegionRequest, decision: GateDecision, beside: ChampionComparison) -> Drill:
    """What became of a model that is no good and loses nothing in its engine. Only a loss that is sure counts."""
    refused = beside.verdict is Decision.FAILED
    return Drill(
        name=WORSE,
        region=request.region,
        attempt=f"serve in {request.region} a model whose weights are shuffled, in FP32",
        refused=refused,
        by="comparison with the champion" if refused else f"nothing: {beside.verdict}",
        detail=f"the gate alone: {decision.verdict}, {decision.reasons[0]}; {beside.reason}",
    )


def judge_foreign(request: RegionRequest, foreign: CalibrationTable, result: object) -> Drill:
    """What became of building a region's engine with another region's calibration."""
    refused = isinstance(result, ForeignCalibration)
    return Drill(
        name=FOREIGN,
        region=request.region,
        attempt=f"build {request.region}'s engine with the calibration of {foreign.seal.region} "
        f"({short(foreign.seal.dataset)})",
        refused=refused,
        by="provenance" if refused else f"nothing: {type(result).__name__}",
        detail=redacted(str(result)) if isinstance(result, Exception) else "an engine was built",
    )


def judge_over_threshold(request: RegionRequest, decision: GateDecision) -> Drill:
    """What became of an engine whose thresholds are far too narrow. Only `failed` counts as refused."""
    refused = decision.verdict is Decision.FAILED
    return Drill(
        name=OVER_THRESHOLD,
        region=request.region,
        attempt=f"approve an engine of {request.region}, its clip thresholds 1/{round(1 / DAMAGE)} of the right ones",
        refused=refused,
        by="gate" if refused else f"nothing: {decision.verdict}",
        detail=decision.reasons[0],
        gate=decision,
    )


def judge_broken(request: RegionRequest, error: object) -> Drill:
    """What is said of drills that an error stopped: nothing was refused, so nothing was shown."""
    return Drill(
        name="drills",
        region=request.region,
        attempt=f"run the drills of {request.region}",
        refused=False,
        by=f"nothing: {type(error).__name__}",
        detail=redacted(str(error)),
    )

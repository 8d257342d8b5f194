"""Drills: deliberate attempts to get a bad engine past Regiolect. A drill passes when it is refused.

They run on the user's own model and data, so that a release shows that its refusals work where it runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from regiolect.contracts import (
    CalibrationTable,
    ChosenGraph,
    Contract,
    Decision,
    Drill,
    GateDecision,
    Precision,
    RegionOutcome,
    short,
)
from regiolect.errors import ForeignCalibration
from regiolect.integrity import digest_of
from regiolect.planning import RegionRequest

FOREIGN = "foreign calibration"
OVER_THRESHOLD = "over its threshold"
# A range 32 times too narrow costs five of INT8's seven bits of magnitude: no network passes a gate with it.
DAMAGE = 1 / 32


class DrillResults(Contract):
    """Both drills of one region."""

    drills: tuple[Drill, ...]


def candidates(
    requests: Sequence[RegionRequest], outcomes: Mapping[str, RegionOutcome]
) -> tuple[RegionRequest, RegionRequest] | None:
    """The region to drill and the region whose calibration it is offered: the first INT8 region that was gated, and
    the first other region whose data passed their checks. None when there are no two such regions."""
    drilled = next(
        (r for r in requests if r.policy.precision is Precision.INT8 and outcomes[r.build_key].gate is not None), None
    )
    donor = next(
        (r for r in requests if drilled and r.region != drilled.region and outcomes[r.build_key].engine is not None),
        None,
    )
    return (drilled, donor) if drilled is not None and donor is not None else None


def drill_key(request: RegionRequest, donor: RegionRequest) -> str:
    """Under what the results are kept."""
    return digest_of({"region": request.build_key, "donor": donor.build_key})


def drill_request(request: RegionRequest, name: str) -> RegionRequest:
    """The same request under a build key of its own, so that nothing of a drill is mistaken for a real build."""
    return request.model_copy(update={"build_key": digest_of({"drill": name, "of": request.build_key})})


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
        detail=str(result) if isinstance(result, Exception) else "an engine was built",
    )


def judge_over_threshold(request: RegionRequest, gate: GateDecision) -> Drill:
    """What became of an engine whose thresholds are far too narrow. Only `failed` counts as refused."""
    refused = gate.outcome is Decision.FAILED
    return Drill(
        name=OVER_THRESHOLD,
        region=request.region,
        attempt=f"approve an engine of {request.region}, its clip thresholds 1/{round(1 / DAMAGE)} of the right ones",
        refused=refused,
        by="gate" if refused else f"nothing: {gate.outcome}",
        detail=gate.reasons[0],
        gate=gate,
    )


def judge_broken(request: RegionRequest, error: object) -> Drill:
    """What is said of drills that an error stopped: nothing was refused, so nothing was shown."""
    return Drill(
        name="drills",
        region=request.region,
        attempt=f"run the drills of {request.region}",
        refused=False,
        by=f"nothing: {type(error).__name__}",
        detail=str(error),
    )

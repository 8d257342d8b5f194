"""An engine on its own target: what makes it fast there."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import EngineArtifact, ExportedModel, TunedEngine, ValidatedCalibration
from regiolect.planning import RegionRequest
from regiolect.release import stages
from tasks.in_child import in_child


@task(name="tune", tags=["benchmark"], cache_policy=NO_CACHE)
def tune_engine(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    minutes: float,
    force: bool = False,
) -> TunedEngine:
    return in_child(stages.tune, request, model, engine, data, minutes, force)

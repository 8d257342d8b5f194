"""An engine on its own target: what makes it fast there."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect import progress
from regiolect.contracts import EngineArtifact, ExportedModel, TunedEngine, ValidatedCalibration
from regiolect.planning import RegionRequest
from regiolect.settings import load_settings
from regiolect.tune.region import tune_region


@task(name="tune", tags=["benchmark"], cache_policy=NO_CACHE)
def tune_engine(
    request: RegionRequest,
    model: ExportedModel,
    engine: EngineArtifact,
    data: ValidatedCalibration,
    minutes: float,
    force: bool = False,
) -> TunedEngine:
    store = load_settings().store(request.region)
    return tune_region(request, model, engine, data, minutes, store, force=force, say=progress.note)

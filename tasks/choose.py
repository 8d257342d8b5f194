"""Which graph the region's engine is built from."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import ChosenGraph, ExportedModel, Observation, ValidatedCalibration
from regiolect.planning import RegionRequest
from regiolect.release import stages
from tasks.in_child import in_child


@task(name="choose graph", tags=["build", "benchmark"], cache_policy=NO_CACHE)
def choose(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    observation: Observation | None,
    force: bool = False,
) -> ChosenGraph:
    return in_child(stages.choose, request, model, data, observation, force)

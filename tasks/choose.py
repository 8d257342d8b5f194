"""Which graph the region's engine is built from."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect import progress
from regiolect.contracts import ChosenGraph, ExportedModel, Observation, ValidatedCalibration
from regiolect.model import load_model_spec
from regiolect.planning import RegionRequest
from regiolect.repair import choose_graph
from regiolect.settings import load_settings


@task(name="choose graph", tags=["build", "benchmark"], cache_policy=NO_CACHE)
def choose(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    observation: Observation | None,
    force: bool = False,
) -> ChosenGraph:
    spec, store = load_model_spec(request.model), load_settings().store(request.region)
    return choose_graph(request, spec, model, data, observation, store, force=force, say=progress.note)

"""Typed graph to engine, and what the engine says of itself."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import Attestation, ChosenGraph, EngineArtifact, ExportedModel, ValidatedCalibration
from regiolect.planning import RegionRequest
from regiolect.release import stages
from tasks.in_child import in_child


@task(name="build", tags=["build"], cache_policy=NO_CACHE)
def build(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    chosen: ChosenGraph,
    force: bool = False,
) -> EngineArtifact:
    return in_child(stages.build, request, model, data, chosen, force)


@task(name="attest", tags=["build"], cache_policy=NO_CACHE)
def attest_engine(engine: EngineArtifact) -> Attestation:
    return in_child(stages.attest, engine)

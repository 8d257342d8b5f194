"""Typed graph to engine, and what the engine says of itself."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.attest import attest
from regiolect.build import build_engine
from regiolect.contracts import Attestation, ChosenGraph, EngineArtifact, ExportedModel, ValidatedCalibration
from regiolect.engines.catalog import backend
from regiolect.machine import sharing_machine
from regiolect.planning import RegionRequest
from regiolect.settings import load_settings


@task(name="build", tags=["build"], cache_policy=NO_CACHE)
def build(
    request: RegionRequest,
    model: ExportedModel,
    data: ValidatedCalibration,
    chosen: ChosenGraph,
    force: bool = False,
) -> EngineArtifact:
    with sharing_machine():
        return build_engine(request, model, data, chosen, load_settings().store(request.region), force=force)


@task(name="attest", tags=["build"], cache_policy=NO_CACHE)
def attest_engine(engine: EngineArtifact) -> Attestation:
    with sharing_machine():
        return attest(backend(engine.request.target.backend), engine, load_settings().store(engine.request.region))

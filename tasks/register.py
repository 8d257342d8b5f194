"""Approved engines to the MLflow registry."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import ExportedModel, RegionOutcome, RegisteredEngine
from regiolect.publish import publish
from regiolect.registry import Registry
from regiolect.settings import load_settings


@task(name="register", tags=["registry"], cache_policy=NO_CACHE)
def register(model: ExportedModel, outcomes: tuple[RegionOutcome, ...]) -> RegisteredEngine | None:
    settings = load_settings()
    return publish(model, outcomes, settings.store(), Registry(settings.tracking_uri, settings.artifact_root))

"""What the releases of a test left behind: in its store, in its registry, and for the next plan."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient

from regiolect.contracts import RegionOutcome, ReleaseRow
from regiolect.planning import OUTCOMES, Plan, ReleaseRequest, plan_here
from regiolect.registry import Registry
from regiolect.settings import load_settings
from tests.flows.tiny_models import ADDRESS


def store_folder() -> Path:
    return load_settings().home / "store"


def client() -> MlflowClient:
    uri = load_settings().tracking_uri
    return MlflowClient(uri, uri)


def is_served(region: str) -> bool:
    settings = load_settings()
    return Registry(settings.tracking_uri, settings.artifact_root).champion("tiny", region) is not None


def outcome_of(row: ReleaseRow) -> RegionOutcome:
    assert row.build_key is not None
    found = load_settings().store().get_record(OUTCOMES, row.build_key, RegionOutcome)
    assert found is not None
    return found


def plan(regions: list[str] | None = None, force: bool = False) -> Plan:
    settings = load_settings()
    return plan_here(
        settings, ReleaseRequest.of(ADDRESS, regions, force=force), champions=Registry.of(settings).champions
    )


def aliases(name: str) -> dict[str, int]:
    return {alias: int(version) for alias, version in client().get_registered_model(name).aliases.items()}

"""A home with builds and a registry, whose engines are only bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.contracts import EngineArtifact
from regiolect.integrity import digest_bytes
from regiolect.planning import OUTCOMES, POLICIES
from regiolect.policy import RegionPolicy
from regiolect.settings import Settings
from tests.conftest import POLICY, Bundles

LOOSER = RegionPolicy.model_validate(
    {**POLICY.model_dump(mode="json"), "accuracy": {"metric": "accuracy", "limit": 99}}
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("MLFLOW_TRACKING_URI", "REGIOLECT_MLFLOW_TRACKING_URI", "REGIOLECT_POLICIES", "REGIOLECT_STORE"):
        # Set before it is deleted, so that what the command puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("REGIOLECT_HOME", str(folder))
    return folder


@pytest.fixture
def built(home: Path, bundles: Any) -> Callable[..., tuple[Bundles, EngineArtifact]]:
    """Builds an engine of these bytes under a policy, and keeps it as a release does."""

    def build(content: bytes, policy: RegionPolicy = POLICY) -> tuple[Bundles, EngineArtifact]:
        own = dataclasses.replace(bundles, store=Settings(home=home).store(), policy=policy)
        artifact = own.artifact(content=content)
        parts = {"model": digest_bytes(b"weights"), "policy": policy.digest()}
        own.store.put_record(POLICIES, policy.digest(), policy)
        outcome = own.outcome(artifact).model_copy(update={"key_parts": parts})
        own.store.put_record(OUTCOMES, outcome.build_key, outcome)
        return own, artifact

    return build


@pytest.fixture
def typed(home: Path) -> Callable[..., str]:
    """Types a command that ends well, and tells what it says."""

    def call(*arguments: str) -> str:
        done = CliRunner().invoke(app, [*arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return call

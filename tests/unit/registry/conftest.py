"""A registry for the tests of a file."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from regiolect.contracts import RegisteredEngine
from regiolect.registry import Registry
from tests.unit.registry.store import Register


@pytest.fixture(scope="module")
def home(registry_home: Path) -> Path:
    return registry_home


@pytest.fixture(scope="module")
def registry(home) -> Registry:
    """Each test has a region of its own."""
    return Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts")


@pytest.fixture
def register(registry, bundles, tmp_path) -> Register:
    count = itertools.count()

    def call(region: str, content: bytes, champion: bool = True, by: Registry = registry) -> RegisteredEngine:
        folder = tmp_path / f"{region}-{next(count)}"
        manifest = bundles.write(folder, bundles.artifact(region, content=content), region=region)
        return by.register(folder, manifest, champion)

    return call

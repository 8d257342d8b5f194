"""A registry for each module, and a region of its own for each test."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from regiolect.policy import RegionPolicy
from regiolect.registry import Registry
from regiolect.signing.keyring import Keyring
from tests.unit.audit.desk import NUMBERS, Desk, stated


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("registry")


@pytest.fixture
def desk(home: Path, bundles: Any, keyring: Keyring, tmp_path: Path) -> Desk:
    """One store for the module, as making a cold one takes seconds; each test has a region of its own."""
    region = f"r{next(NUMBERS)}"
    policy = RegionPolicy.model_validate(stated(region))
    registry = Registry(f"sqlite:///{home / 'mlflow.db'}", home / "artifacts", keyring=keyring)
    return Desk(registry, dataclasses.replace(bundles, policy=policy), tmp_path / "policies", region, stated(region))

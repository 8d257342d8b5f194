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


@pytest.fixture
def desk(registry_home: Path, bundles: Any, keyring: Keyring, tmp_path: Path) -> Desk:
    """Each test has a region of its own."""
    region = f"r{next(NUMBERS)}"
    policy = RegionPolicy.model_validate(stated(region))
    registry = Registry(f"sqlite:///{registry_home / 'mlflow.db'}", registry_home / "artifacts", keyring=keyring)
    return Desk(registry, dataclasses.replace(bundles, policy=policy), tmp_path / "policies", region, stated(region))

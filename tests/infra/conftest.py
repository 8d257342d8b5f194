"""What tests of infra/ share: its files, and the regions that it must provide for."""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.policy import PolicyBook


@pytest.fixture(scope="session")
def root() -> Path:
    return Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def infra(root: Path) -> Path:
    return root / "infra"


@pytest.fixture(scope="session")
def regions() -> frozenset[str]:
    return frozenset(PolicyBook().regions())

"""An environment that leads nowhere but to a test's own folder, and a small region to look at."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest

from regiolect.doctor.examination import examine
from regiolect.doctor.finding import Finding
from tests.flows.tiny_models import ADDRESS, CPU, WORKSHOP, Workshop

Examined = Callable[..., dict[str, Finding]]


@pytest.fixture
def workshop(tmp_path: Path) -> Iterator[Workshop]:
    """A model with data and a policy of the region `north`, and nothing else configured."""
    made = Workshop(tmp_path)
    made.model.write_bytes(b"a model that nobody reads here")
    made.add("north", CPU)
    foreign = ("AWS_", "MLFLOW_", "PREFECT_", "REGIOLECT_")
    mine = {
        "REGIOLECT_HOME": str(tmp_path / "home"),
        "REGIOLECT_MODELS": ADDRESS,
        "REGIOLECT_POLICIES": str(made.policies),
        WORKSHOP: str(tmp_path),
    }
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    with mock.patch.dict(os.environ, kept | mine, clear=True):
        yield made


@pytest.fixture
def examined(workshop: Workshop) -> Examined:
    """Every finding by its name."""
    return lambda regions=None: {finding.name: finding for finding in examine(regions)}

"""A workshop of two regions, its plans, and builds that are only bytes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from regiolect.contracts import Decision, RegionOutcome
from regiolect.planning import Installation, Plan, RegionRequest, ReleaseRequest, keep, plan_release
from regiolect.policy import PolicyBook
from regiolect.storage import LocalStore
from tests.flows.tiny_models import ADDRESS, Workshop


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    """Two regions; the model is a file that nobody reads here."""
    made = Workshop(tmp_path / "workshop")
    made.folder.mkdir()
    made.model.write_bytes(b"weights")
    made.add("east", precision="FP16")
    made.add("north")
    return made


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def plan(workshop: Workshop, store: LocalStore) -> Callable[..., Plan]:
    def planned(*regions: str, of: Workshop = workshop, **how: Any) -> Plan:
        asked = {name: how.pop(name) for name in ("targets", "force") if name in how}
        here = Installation(PolicyBook(of.policies), lambda region: store, **how)
        return plan_release(ReleaseRequest.of(ADDRESS, regions, **asked), of.spec(), here)

    return planned


@pytest.fixture
def build(bundles, store: LocalStore) -> Callable[..., RegionOutcome]:
    """Keeps an outcome as a build of the request would; its engine is only bytes."""
    bundles.store = store

    def built(request: RegionRequest, decision: Decision = Decision.APPROVED) -> RegionOutcome:
        own = {"region": request.region, "target": request.target, "arithmetic": request.arithmetic}
        own["build_key"] = request.build_key
        outcome: RegionOutcome = bundles.outcome(bundles.artifact(), decision)
        if decision is Decision.NOT_ATTESTED:
            outcome = outcome.model_copy(update={"evaluation": None, "gate": None})
        outcome = outcome.model_copy(update={**own, "key_parts": request.key_parts, "policy": request.policy.digest()})
        keep(outcome, request, store)
        return outcome

    return built

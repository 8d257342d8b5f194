"""The night's plan over several models, without running anything."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from regiolect.errors import StoreUnreachable
from regiolect.planning import Installation
from regiolect.policy import PolicyBook
from regiolect.release.nightly import plan_night, troubles_of
from regiolect.storage import LocalStore, Store
from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop

MODELS = (ADDRESS, "tests.flows.nowhere:MODEL", f"{ADDRESS}_FLOAT")


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workshop:
    made = Workshop(tmp_path)
    made.model.write_bytes(b"weights")
    made.add("east")
    made.add("north")
    monkeypatch.setenv(WORKSHOP, str(tmp_path))
    return made


@pytest.mark.parametrize("at_once", [1, 8])
def test_models_are_planned_in_their_order_however_many_at_once(workshop: Workshop, at_once: int) -> None:
    store = LocalStore(workshop.folder / "store")
    plans = plan_night(MODELS, Installation(PolicyBook(workshop.policies), lambda region: store), at_once=at_once)
    assert tuple(planned.address for planned in plans) == MODELS
    assert [planned.failure.kind for planned in plans if planned.failure] == ["UnknownModel"]
    assert [len(planned.plan.engines) for planned in plans if planned.plan] == [2, 2]


def test_a_store_that_cannot_be_opened_is_waited_for_once_and_told_for_every_model(workshop: Workshop) -> None:
    tried: Counter[str] = Counter()

    def stores(region: str) -> Store:
        tried[region] += 1
        if region == "north":
            raise StoreUnreachable(expected="an S3 server", found="nothing answers", remedy="start it")
        return LocalStore(workshop.folder / "store")

    models = (ADDRESS, f"{ADDRESS}_FLOAT")
    plans = plan_night(models, Installation(PolicyBook(workshop.policies), stores), at_once=4)
    assert tried["north"] == 1
    told = [(trouble.region, trouble.failure.kind) for trouble in troubles_of(plans)]
    assert told == [("north", "StoreUnreachable")] * 2
    actions = {(engine.region, engine.action) for each in plans if each.plan for engine in each.plan.engines}
    assert actions == {("east", "build"), ("north", "refuse")}

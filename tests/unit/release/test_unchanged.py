"""What a release comes to that finds nothing to do."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from regiolect.contracts import Decision, Failure, HeldBack, RegionOutcome, RegisteredEngine, ReleaseResult
from regiolect.errors import RegistryError
from regiolect.planning import OUTCOMES, Plan, keep_held
from regiolect.release.unchanged import unchanged
from regiolect.settings import Settings
from regiolect.storage import LocalStore

BUNDLE = "sha256:" + "1" * 64


def champion(*built: RegionOutcome, **changes: Any) -> RegisteredEngine:
    fields = {
        "name": "tiny-north",
        "version": 3,
        "uri": "models:/tiny-north/3",
        "champion": True,
        "bundle": BUNDLE,
        "targets": tuple(each.target.name for each in built),
        "build_keys": tuple(each.build_key for each in built),
    }
    return RegisteredEngine.model_validate(fields | changes)


@pytest.fixture
def settings(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("REGIOLECT_STORE", str(store.root))
    return Settings()


@pytest.fixture
def released(settings: Settings, plan: Callable[..., Plan]) -> Callable[..., ReleaseResult | None]:
    """A release of a region, as far as it finds nothing to do."""

    def release(region: str, served: dict[str, RegisteredEngine]) -> ReleaseResult | None:
        planned = plan(region, champions=lambda: served)
        return unchanged(settings, planned, lambda: served, datetime.now(UTC))

    return release


def test_what_is_kept_and_served_is_told(released, plan, build) -> None:
    built = build(plan("north").requests()[0])
    result = released("north", {"tiny-north": champion(built)})
    (row,) = result.rows
    assert (row.decision, row.rebuilt, row.model_uri) == (Decision.APPROVED, False, "models:/tiny-north@champion")
    assert row.build_key == built.build_key
    assert result.complete and result.report is None


def test_what_the_gate_refused_is_told_again(released, plan, build) -> None:
    build(plan("north").requests()[0], Decision.FAILED)
    result = released("north", {})
    assert [(row.decision, row.model_uri) for row in result.rows] == [(Decision.FAILED, None)]
    assert not result.complete


def test_why_a_version_is_held_back_is_told_again(released, plan, build, store) -> None:
    built = build(plan("north").requests()[0])
    held = Failure(kind="WorseThanChampion", expected="no worse", found="2 points worse", remedy="regiolect promote")
    kept = HeldBack(champion=BUNDLE, engines=((built.build_key, None),), held=held, comparisons=())
    keep_held("tiny", "north", kept, store)
    other = champion(built, build_keys=("sha256:" + "2" * 64,))
    result = released("north", {"tiny-north": other})
    assert [(row.model_uri, row.failure) for row in result.rows] == [(None, held)]
    beside = other.model_copy(update={"bundle": "sha256:" + "3" * 64})
    assert released("north", {"tiny-north": beside}) is None, "beside another champion it was not judged"


def test_where_there_is_work_nothing_is_told(released, plan, build, store) -> None:
    assert released("north", {}) is None, "to build"
    built = build(plan("north").requests()[0])
    assert released("north", {}) is None, "to promote"
    assert released("east", {}) is None
    served = {"tiny-north": champion(built)}
    assert released("north", served) is not None
    store.path_of(built.engine.files[0].blob).unlink()
    assert released("north", served) is None, "its engine is gone"
    assert store.get_record(OUTCOMES, built.build_key, RegionOutcome) is not None


def test_an_engine_that_goes_while_it_is_looked_at_is_work(settings, plan, build, store) -> None:
    built = build(plan("north").requests()[0])
    served = {"tiny-north": champion(built)}
    planned = plan("north", champions=lambda: served)
    store.path_of(built.engine.files[0].blob).unlink()
    assert unchanged(settings, planned, lambda: served, datetime.now(UTC)) is None


def test_where_the_registry_does_not_answer_nothing_is_told(settings, plan, build) -> None:
    build(plan("north").requests()[0])

    def silent() -> dict[str, RegisteredEngine]:
        raise RegistryError("an answer", "none", "start it")

    planned = plan("north", champions=silent)
    assert unchanged(settings, planned, silent, datetime.now(UTC)) is None

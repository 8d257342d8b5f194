"""What a plan says of approved engines that nobody can load, and where it asks the registry for that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from regiolect.cli.exit_codes import plan_exit_code
from regiolect.cli.tables import print_plans
from regiolect.contracts import Decision, Failure, HeldBack, RegionOutcome, RegisteredEngine
from regiolect.errors import RegistryError
from regiolect.planning import ModelPlan, Plan, PlannedEngine, document_of, has_work, keep_held

Planned = Callable[..., Plan]


def champion(*built: RegionOutcome, **changes: Any) -> RegisteredEngine:
    fields = {
        "name": "tiny-north",
        "version": 3,
        "uri": "models:/tiny-north/3",
        "champion": True,
        "bundle": "sha256:" + "1" * 64,
        "targets": tuple(each.target.name for each in built),
        "build_keys": tuple(each.build_key for each in built),
    }
    return RegisteredEngine.model_validate(fields | changes)


def only(planned: Plan) -> PlannedEngine:
    (engine,) = planned.engines
    return engine


def nobody() -> dict[str, RegisteredEngine]:
    return {}


def unasked() -> dict[str, RegisteredEngine]:
    raise AssertionError("asked although nothing can depend on it")


def test_the_registry_is_asked_only_where_an_approved_engine_is_there(plan: Planned, build) -> None:
    assert only(plan("north", champions=unasked)).action == "build"
    build(only(plan("north")).request, Decision.FAILED)
    assert only(plan("north", champions=unasked)).action == "refuse"
    assert plan("north", champions=unasked).registry is None


def test_what_was_approved_and_is_not_served_is_work(plan: Planned, build) -> None:
    built = build(only(plan("north")).request)
    unserved = only(plan("north", champions=nobody))
    assert (unserved.action, has_work([unserved])) == ("promote", True)
    assert unserved.reason.endswith("approved, and no version is served")
    served = plan("north", champions=lambda: {"tiny-north": champion(built)})
    assert (only(served).action, has_work(served.engines)) == ("reuse", False)
    assert served.summary() == "tiny: 0 to build, 0 to rebuild, 1 unchanged, 0 refused, 0 to retire"
    tuned_since = champion(built, tunings=("sha256:" + "2" * 64,))
    assert only(plan("north", champions=lambda: {"tiny-north": tuned_since})).action == "promote"


def test_what_a_retired_key_signed_is_to_be_signed_anew(plan: Planned, build) -> None:
    built = build(only(plan("north")).request)
    engine = only(plan("north", champions=lambda: {"tiny-north": champion(built, retired_key="release 1a2b")}))
    assert (engine.action, has_work([engine])) == ("promote", True)
    assert "signed by release 1a2b, a retired key" in engine.reason


def test_the_change_against_what_is_served_is_told_where_the_results_are_at_hand(
    plan: Planned, build, workshop
) -> None:
    old = build(only(plan("north")).request)
    workshop.write_policy("north", limit=99.0)
    build(only(plan("north")).request)
    engine = only(plan("north", champions=lambda: {"tiny-north": champion(old)}))
    assert engine.action == "promote"
    assert "models:/tiny-north/3 is served; against models:/tiny-north/3: loss 0.00 points" in engine.reason
    assert "limit 99" in engine.reason


def test_what_was_held_back_beside_this_very_champion_is_no_work(plan: Planned, build, workshop, store) -> None:
    old = build(only(plan("north")).request)
    workshop.write_policy("north", limit=99.0)
    new = build(only(plan("north")).request)
    present = champion(old)
    held = Failure(kind="WorseThanChampion", expected="no worse", found="cpu: loss 7 points", remedy="promote it")
    assert present.bundle is not None
    kept = HeldBack(champion=present.bundle, engines=((new.build_key, None),), held=held, comparisons=())
    keep_held("tiny", "north", kept, store)
    engine = only(plan("north", champions=lambda: {"tiny-north": present}))
    assert (engine.action, has_work([engine])) == ("reuse", False)
    assert engine.reason.endswith("held back: cpu: loss 7 points; promote it")
    another = champion(old, bundle="sha256:" + "3" * 64)
    assert only(plan("north", champions=lambda: {"tiny-north": another})).action == "promote"


def test_a_registry_that_does_not_answer_is_told_and_is_no_nothing_to_do(
    plan: Planned, build, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = 0

    def silent() -> dict[str, RegisteredEngine]:
        nonlocal asked
        asked += 1
        raise RegistryError("an answer of the registry", "none", "start MLflow")

    for region in ("north", "east"):
        build(only(plan(region)).request)
    planned = plan("north", "east", champions=silent)
    assert asked == 1
    assert [engine.action for engine in planned.engines] == ["reuse", "reuse"]
    plans = (ModelPlan(address="tiny", plan=planned),)
    assert plan_exit_code(plans, tell_work=True) == 1
    assert document_of(plans).models[0].registry == planned.registry
    print_plans(plans)
    told = capsys.readouterr().out
    assert "what is to be promoted is not known: RegistryError" in told
    assert "start MLflow" in told

"""A command plans once, and what it planned is what is built and tuned."""

from __future__ import annotations

from typing import Any

import pytest

from regiolect.contracts import Decision
from regiolect.errors import OutdatedPlan, UnknownTarget
from regiolect.orchestrator import bound, plan_all, run_release, run_tuning
from regiolect.planning import ReleaseRequest
from regiolect.planning import release as planning
from regiolect.settings import load_settings
from regiolect.tune import run
from tests.flows.kept import aliases
from tests.flows.tiny_models import ADDRESS, PORTABLE, Workshop

BATCH = {"batch": {"min": 1, "opt": 2, "max": 2}}
EVERYTHING = ReleaseRequest.of(ADDRESS, None)


@pytest.fixture
def plans(one_process: None, monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """What was planned."""
    made: list[object] = []
    original = planning.plan_whatever_targets

    def counted(*asked: Any) -> Any:
        made.append(asked[0])
        return original(*asked)

    monkeypatch.setattr(planning, "plan_whatever_targets", counted)
    # The folder of Prefect's own that a command looks for room in.
    monkeypatch.setattr("regiolect.orchestrator.require_room", lambda folder: None)
    return made


def test_a_command_plans_once_whatever_comes_after_it(
    workshop: Workshop, plans: list[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "MOST_PASSES", 6)
    workshop.add("north", PORTABLE, precision="FP32", **BATCH)
    workshop.add("east", PORTABLE, precision="FP32", **BATCH)
    first = run_release(load_settings(), EVERYTHING)
    assert [row.decision for row in first.rows] == [Decision.APPROVED] * 2
    assert len(plans) == 1
    plans.clear()

    tuned = run_tuning(load_settings(), ADDRESS, None, targets=None, minutes=1.0, force=False)
    assert [answer.outcome.tuning is not None for answer in tuned.answers] == [True] * 2
    assert len(plans) == 1
    plans.clear()

    (planned,) = plan_all([ADDRESS])
    assert planned.plan is not None
    reviewed = bound(load_settings(), EVERYTHING, planned.plan)
    plans.clear()
    second = run_release(load_settings(), EVERYTHING, reviewed=reviewed)
    assert not any(row.rebuilt for row in second.rows)
    assert len(plans) == 1
    assert aliases("tiny-north")["champion"] == 2, "what was tuned since was planned to be promoted"
    # What the plan asked for is done and served.
    assert all(row.complete for row in run_release(load_settings(), EVERYTHING, reviewed=reviewed).rows)

    workshop.write_policy("north", PORTABLE, precision="FP32", limit=4.0, **BATCH)
    with pytest.raises(OutdatedPlan, match="north portable: promote, now rebuild; changed: the policy"):
        run_release(load_settings(), EVERYTHING, reviewed=reviewed)
    assert aliases("tiny-north")["champion"] == 2


def test_a_wrong_request_is_answered_before_any_flow(workshop: Workshop, plans: list[object]) -> None:
    workshop.add("north")
    with pytest.raises(UnknownTarget, match="'cpus'"):
        run_release(load_settings(), ReleaseRequest.of(ADDRESS, None, ["cpus"]))
    assert len(plans) == 1

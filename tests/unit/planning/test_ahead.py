"""A plan that was made ahead is taken by whoever asks for that very plan, once, and by nobody after the command."""

from __future__ import annotations

from regiolect.planning import ReleaseRequest, planned_ahead, take_plan


def test_a_plan_made_ahead_is_taken_once_and_for_its_own_request_alone(plan) -> None:
    asked, made = ReleaseRequest.of("m:MODEL", ["north"]), plan("north")
    with planned_ahead(asked, made):
        assert take_plan(ReleaseRequest.of("m:MODEL", ["north"], force=True)) is None
        assert take_plan(ReleaseRequest.of("m:MODEL", None)) is None
        assert take_plan(ReleaseRequest.of("m:MODEL", ["north"])) is made
        assert take_plan(asked) is None, "who asks again is to look again"
    with planned_ahead(asked, made):
        pass
    assert take_plan(asked) is None

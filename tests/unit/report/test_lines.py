"""What a release and a night are in a line."""

from __future__ import annotations

from datetime import UTC, datetime

from regiolect.contracts import Decision, NightlyResult
from regiolect.report import digest_line, release_line
from tests.unit.report.pages import release, row, unjudged


def test_one_engine_is_no_plural() -> None:
    assert release_line(release(row())) == "tiny: 1 engine, 1 approved, 1 served in 113 s"
    assert release_line(release(row(), row("jp"))) == "tiny: 2 engines, 2 approved, 2 served in 113 s"


def test_a_night_says_how_many_need_attention_and_how_many_wait() -> None:
    blocked = unjudged("jp", Decision.REFUSED, rebuilt=False, model_uri=None)
    night = NightlyResult(
        started=datetime(2026, 3, 4, tzinfo=UTC),
        seconds=9.0,
        dry_run=False,
        models=2,
        engines=3,
        unchanged=1,
        releases=(release(blocked),),
        waiting=("a: jp",),
    )
    assert digest_line(night).startswith("nightly: 1 needs attention, 1 model waiting, 1 unchanged of ")
    twice = night.model_copy(update={"releases": (release(blocked, blocked),), "waiting": ("a: jp", "b: jp")})
    assert digest_line(twice).startswith("nightly: 2 need attention, 2 models waiting, 1 unchanged of ")

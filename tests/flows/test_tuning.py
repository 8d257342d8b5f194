"""Tuned on the target: because the policy says so, or on demand; signed, served, and never in the way of an engine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows import tune_on_target
from flows.release import release
from flows.tune_on_target import tune_all
from regiolect.audit import audit
from regiolect.bundle.manifest import tuning_path
from regiolect.cli.app import app
from regiolect.cli.engine_facts import find_engine
from regiolect.contracts import Decision, EvaluationResult, ReleaseRow, TunedEngine, TuningJournal
from regiolect.identity.tuning import tuning_digest
from regiolect.planning import Installation
from regiolect.policy import PolicyBook
from regiolect.registry import Registry
from regiolect.release.nightly import plan_night, work_of
from regiolect.serving import load_bundle
from regiolect.settings import load_settings
from regiolect.tune import run
from regiolect.tune.journal import TUNINGS
from tests.flows.kept import aliases, outcome_of
from tests.flows.tiny_models import ADDRESS, GPU, PORTABLE, Workshop

SMALL = {"batch": {"min": 1, "opt": 2, "max": 2}}
WIDE = {"min": 1, "opt": 1, "max": 8}
MINUTES = 1.0


@pytest.fixture(autouse=True)
def few_passes(one_process: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Enough for an answer; that it is a good one is not what these tests are about."""
    monkeypatch.setattr(run, "MOST_PASSES", 6)


def registry() -> Registry:
    settings = load_settings()
    return Registry(settings.tracking_uri, settings.artifact_root, keyring=settings.keyring())


def waiting() -> tuple[str, ...]:
    """Regions that the nightly would release."""
    settings = load_settings()
    plans = plan_night((ADDRESS,), Installation.of(settings, champions=registry().champions))
    return tuple(region for work in work_of(plans) for region in work.regions)


def journals() -> list[TuningJournal]:
    return list(load_settings().store().records(TUNINGS, TuningJournal))


@pytest.fixture
def approved(workshop: Workshop) -> ReleaseRow:
    """A region's engine, released and served."""
    workshop.add("north", PORTABLE, precision="FP32", **SMALL)
    (row,) = release(ADDRESS).rows
    assert row.decision is Decision.APPROVED
    return row


def test_tuned_on_demand_an_engine_is_published_by_the_next_release_and_not_built_again(
    workshop: Workshop,
) -> None:
    workshop.add("north", PORTABLE, precision="FP32", **SMALL)
    assert not_tuned() == ("TuningError", "never built")
    (approved,) = release(ADDRESS).rows
    assert approved.decision is Decision.APPROVED
    before = outcome_of(approved)
    assert waiting() == ()
    (answer,) = tune_all(ADDRESS, minutes=MINUTES)
    after = outcome_of(approved)
    assert after == answer.outcome
    assert after.tuning is not None
    assert (after.engine, after.build_key, after.decision) == (before.engine, before.build_key, Decision.APPROVED)
    assert after.gate is not None and before.gate is not None
    assert (after.gate.loss, after.gate.samples) == (before.gate.loss, before.gate.samples)
    assert waiting() == ("north",), "the nightly sees that what is served is not what is kept"

    (row,) = release(ADDRESS).rows
    assert not row.rebuilt
    assert row.model_uri == "models:/tiny-north@champion"
    assert aliases("tiny-north") == {"champion": 2, "previous": 1}
    champion = registry().champion("tiny", "north")
    assert champion is not None
    assert champion.tunings == (tuning_digest(after),)
    assert waiting() == ()
    release(ADDRESS)
    assert aliases("tiny-north") == {"champion": 2, "previous": 1}, "the same bundle is the same version"

    with registry().downloaded(champion) as bundle:
        served = load_bundle(bundle).manifest.engines[0]
        assert served.tuning is not None and tuning_digest(served) == tuning_digest(after)
        journal = TuningJournal.model_validate_json((bundle / tuning_path("portable")).read_bytes())
    assert journal.build_key == approved.build_key
    facts = dict(find_engine("tiny-north", load_settings()).facts)
    assert "operating point" in facts["tuned"]
    assert facts["  default"].startswith("batch 2 x 1:")
    found = audit(registry(), PolicyBook(load_settings().policies))
    assert found.clean
    assert found.versions[-1].engines[0].tuned is not None, "its second version"

    workshop.write_data("north", seed=5)
    kind, found = not_tuned()
    assert (kind, found.partition(" (")[0]) == ("TuningError", "changed: the region's data")
    assert len(journals()) == 1


def not_tuned() -> tuple[str, str]:
    """Of the only region: what failed, and why."""
    (answer,) = tune_all(ADDRESS, minutes=MINUTES)
    failure = answer.outcome.failure
    assert failure is not None
    assert "regiolect run" in failure.remedy
    return failure.kind, failure.found


def test_a_policy_has_engines_tuned_before_they_are_judged_and_no_tuning_spoils_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`east` is tuned because its policy says so; `north` on demand, to what the gate would not approve."""
    workshop.add("east", PORTABLE, precision="FP32", tuning={"minutes": MINUTES}, **SMALL)
    workshop.add("north", PORTABLE, precision="FP32", latency={"p99_ms": 500.0}, **SMALL)
    result = release(ADDRESS)
    east, north = result.rows
    outcome = outcome_of(east)
    assert east.decision is Decision.APPROVED
    assert isinstance(outcome.tuning, TunedEngine)
    assert outcome.evaluation is not None
    assert outcome.evaluation.timing.batch == outcome.tuning.point.batch == 2
    assert aliases("tiny-east") == {"champion": 1}
    assert result.report is not None
    page = Path(result.report).read_text()
    assert "Tuned on the target" in page
    assert outcome.tuning.journal.digest in page

    before = outcome_of(north)

    def slow(*_: object) -> EvaluationResult:
        assert before.evaluation is not None
        slower = before.evaluation.timing.model_copy(update={"p99_ms": 900.0, "p99_upper_ms": 900.0})
        return before.evaluation.model_copy(update={"timing": slower})

    assert [journal.build_key for journal in journals()] == [east.build_key]
    monkeypatch.setattr(tune_on_target, "time_again", slow)
    (answer,) = tune_all(ADDRESS, ["north"], minutes=MINUTES)
    failure = answer.outcome.failure
    assert failure is not None
    assert failure.kind == "TuningError"
    assert "latency" in failure.found
    assert outcome_of(north) == before
    assert {journal.build_key for journal in journals()} == {east.build_key, north.build_key}


@pytest.mark.acceptance
def test_where_a_speed_is_asked_for_an_engine_is_tuned_and_timed_at_the_batch_that_the_limit_is_on(
    workshop: Workshop,
) -> None:
    asked = {"performance": "throughput", "speed": {"least_throughput": 1.0}}
    workshop.add("north", PORTABLE, precision="FP32", tuning={"minutes": MINUTES}, batch=WIDE, **asked)
    (row,) = release(ADDRESS).rows
    outcome = outcome_of(row)
    assert row.decision is Decision.APPROVED
    assert outcome.tuning is not None and outcome.evaluation is not None
    assert outcome.tuning.point.batch == outcome.evaluation.timing.batch == WIDE["opt"]
    assert max(point.batch for point in outcome.tuning.points) > WIDE["opt"], "another batch gives more"


@pytest.mark.acceptance
def test_a_changed_journal_is_found_by_the_audit(approved: ReleaseRow) -> None:
    tune_all(ADDRESS, minutes=MINUTES)
    release(ADDRESS)
    settings = load_settings()
    (file,) = settings.artifact_root.rglob(tuning_path("portable"))
    file.write_bytes(file.read_bytes().replace(b'"format":1', b'"format":1 '))
    (version,) = audit(registry(), PolicyBook(settings.policies)).versions[-1:]
    assert {failure.kind for _, failure in version.all_findings()} == {"IntegrityError"}


@pytest.mark.acceptance
def test_the_command_prints_the_default_against_the_points(approved: ReleaseRow) -> None:
    done = CliRunner().invoke(app, ["tune", ADDRESS, "--minutes", str(MINUTES)])
    assert done.exit_code == 0, done.output
    assert "default" in done.output and "noise" in done.output
    assert "regiolect run MODEL" in done.output


@pytest.mark.acceptance
def test_a_region_whose_policy_is_unusable_is_told_and_not_passed_over(
    approved: ReleaseRow, workshop: Workshop
) -> None:
    workshop.write_data("south")
    (workshop.policies / "south.yaml").write_text("region: south\n")
    alone = CliRunner().invoke(app, ["tune", ADDRESS, "--regions", "south", "--minutes", str(MINUTES)])
    assert alone.exit_code == 1
    assert "south: InvalidPolicy" in alone.output
    done = CliRunner().invoke(app, ["tune", ADDRESS, "--minutes", str(MINUTES)])
    assert done.exit_code == 1, done.output
    assert "south: InvalidPolicy" in done.output and "north" in done.output and "noise" in done.output


@pytest.mark.acceptance
def test_a_target_that_cannot_be_attested_here_is_told_and_the_others_are_tuned(workshop: Workshop) -> None:
    workshop.add("north", PORTABLE, GPU, precision="FP32", **SMALL)
    release(ADDRESS)
    answers = {answer.outcome.target.name: answer.outcome for answer in tune_all(ADDRESS, minutes=MINUTES)}
    assert answers["portable"].tuning is not None
    failure = answers["gpu"].failure
    assert failure is not None and "built, not attested" in failure.found

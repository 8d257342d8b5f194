"""A new version against the one that is served: what would make consumers worse off waits for a person's word."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.release import release
from regiolect.audit import audit
from regiolect.cli.engine_facts import find_engine
from regiolect.cli.exit_codes import exit_code
from regiolect.cli.promote import promote
from regiolect.contracts import Decision, ReleaseRow
from regiolect.errors import UsageError
from regiolect.planning import has_work
from regiolect.policy import PolicyBook
from regiolect.registry import Registry
from regiolect.settings import load_settings
from tasks import evaluate
from tests.flows.kept import aliases, client, plan
from tests.flows.tiny_models import ADDRESS, Workshop

NAME = "tiny-north"
REASON = "the quadrants were renamed, and all consumers know it"


def _released() -> ReleaseRow:
    result = release(ADDRESS)
    (row,) = result.rows
    assert exit_code(result) == (0 if row.model_uri else 1)
    return row


def _registry() -> Registry:
    settings = load_settings()
    return Registry(settings.tracking_uri, settings.artifact_root, keyring=settings.keyring())


@pytest.fixture
def in_children(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is run in children to judge an engine, and beside what is served."""
    run, ran = evaluate.in_child, []

    def noted(stage: Callable[..., Any], *given: Any) -> Any:
        ran.append(stage.__name__)
        return run(stage, *given)

    monkeypatch.setattr(evaluate, "in_child", noted)
    return ran


def test_a_worse_model_is_held_back_until_a_person_promotes_it(
    workshop: Workshop, capsys: pytest.CaptureFixture[str], in_children: list[str]
) -> None:
    workshop.add("north", precision="FP32")
    assert _released().against is None, "there was nothing to compare the first one with"
    workshop.write_model(turned=True)
    held = _released()
    assert (held.decision, held.loss, held.model_uri) == (Decision.APPROVED, 0.0, None), "as good as its own FP32"
    assert held.failure is not None
    assert held.failure.kind == "WorseThanChampion"
    assert held.failure.remedy.startswith(f"models:/{NAME}/1 stays, this one is kept as challenger")
    assert "regiolect promote tiny north --because" in held.failure.remedy
    assert held.against is not None
    assert (held.against.champion, held.against.outcome) == (f"models:/{NAME}/1", Decision.FAILED)
    assert in_children == ["evaluate"] * 2, "its results tell: what is served does not answer again"
    assert held.against.loss_lower is not None
    assert held.against.loss_lower > 70
    assert aliases(NAME) == {"champion": 1, "challenger": 2}
    tags = client().get_model_version(NAME, "2").tags
    assert tags["against"] == f"models:/{NAME}/1"
    assert tags["held"].startswith("WorseThanChampion: cpu: against")
    (planned,) = plan().engines
    assert (planned.action, has_work([planned])) == ("reuse", False), "another release would hold it back again"
    assert f"held back: cpu: against models:/{NAME}/1: loss 79" in planned.reason
    assert _released().failure == held.failure
    assert aliases(NAME) == {"champion": 1, "challenger": 2}

    with pytest.raises(UsageError, match="a reason of at least"):
        promote("tiny", "north", " so ")
    assert "/1: loss 79" in dict(find_engine(f"{NAME}@challenger", load_settings()).facts)["held back"]
    promote(ADDRESS, "north", REASON)
    shown = capsys.readouterr().out.splitlines()
    assert shown[-2].startswith(
        f"models:/{NAME}/2 was held back: WorseThanChampion: cpu: against models:/{NAME}/1: loss"
    )
    assert shown[-1].startswith(f"models:/{NAME}/2 is champion of {NAME}, promoted by ")
    assert aliases(NAME) == {"champion": 2, "previous": 1}
    with pytest.raises(UsageError, match="a challenger of tiny-north"):
        promote("tiny", "north", REASON)
    found = audit(_registry(), PolicyBook(load_settings().policies))
    assert found.clean, found.summary()
    assert [version.promoted_by for version in found.versions if "champion" in version.aliases] == [
        f"{_registry().champion('tiny', 'north').promoted_by}: {REASON}"
    ]
    assert REASON in dict(find_engine(NAME, load_settings()).facts)["champion"]
    assert "held" not in client().get_model_version(NAME, "2").tags
    assert _released().model_uri == f"models:/{NAME}@champion", "the next release leaves it where it is"
    assert aliases(NAME) == {"champion": 2, "previous": 1}


@pytest.mark.acceptance
def test_where_the_gate_set_changed_the_served_engine_answers_the_new_one(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch, in_children: list[str]
) -> None:
    workshop.add("north", precision="FP32")
    _released()
    workshop.write_data("north", seed=1)
    with monkeypatch.context() as elsewhere:
        # Where the new engine is built: the machine that registers it may be none for the served one.
        elsewhere.delattr("tasks.publish.in_child")
        row = _released()
    assert row.against is not None
    assert row.against.again
    assert in_children == ["evaluate", "evaluate", "answer_again"]
    assert (row.against.loss, row.against.outcome) == (0.0, Decision.APPROVED)
    assert aliases(NAME) == {"champion": 2, "previous": 1}

    workshop.write_data("north")
    (planned,) = plan().engines
    assert (planned.action, has_work([planned])) == ("promote", True), "what was there is not what is served"
    assert f"models:/{NAME}/2 is served, whose engine answers today's gate set" in planned.reason
    back = _released()
    assert (back.rebuilt, back.model_uri) == (False, f"models:/{NAME}@champion")
    assert aliases(NAME) == {"champion": 1, "previous": 2}
    assert [engine.action for engine in plan().engines] == ["reuse"]

    workshop.write_data("north", seed=2)
    workshop.write_model(turned=True)
    held = _released()
    assert held.against is not None
    assert (held.against.again, held.against.outcome) == (True, Decision.FAILED)
    assert aliases(NAME) == {"champion": 1, "previous": 2, "challenger": 3}

    workshop.write_data("north")
    workshop.write_model()
    assert _released().model_uri == f"models:/{NAME}@champion"
    assert aliases(NAME) == {"champion": 1, "previous": 2}, "what was given up does not wait for a person's word"
    with pytest.raises(UsageError, match="a challenger of tiny-north"):
        promote("tiny", "north", REASON)


@pytest.mark.acceptance
def test_a_champion_whose_results_cannot_be_read_is_not_replaced(workshop: Workshop) -> None:
    workshop.add("north", precision="FP32")
    _released()
    (results,) = Path(load_settings().artifact_root).rglob("results/cpu*.csv")
    results.write_bytes(results.read_bytes().replace(b",1,1", b",1,0"))
    workshop.write_model(seed=2)
    row = _released()
    assert row.failure is not None
    assert row.failure.kind == "ChampionNotComparable"
    assert "not compared: IntegrityError: expected the per-sample results of models:/tiny-north/1" in row.failure.found
    assert aliases(NAME) == {"champion": 1, "challenger": 2}


@pytest.mark.acceptance
def test_a_first_release_is_judged_by_the_lowest_score_alone(workshop: Workshop) -> None:
    workshop.write_model(turned=True)
    workshop.add("north", precision="FP32", accuracy={"metric": "accuracy", "limit": 5.0, "least": 0.8})
    failed = _released()
    assert (failed.decision, failed.loss) == (Decision.FAILED, 0.0)
    assert failed.reasons[0].startswith("least: scores 0.0")
    workshop.write_model()
    assert _released().model_uri == f"models:/{NAME}@champion"

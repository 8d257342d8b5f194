"""Released before: what a change rebuilds, and what it leaves in place."""

from __future__ import annotations

import pytest

from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import Decision, ReleaseResult, ReleaseRow, Split
from regiolect.integrity import verify_file
from regiolect.planning import PlannedEngine
from regiolect.settings import load_settings
from tests.flows.kept import aliases, client, outcome_of, plan
from tests.flows.tiny_models import ADDRESS, PORTABLE, Workshop


@pytest.fixture(scope="module")
def first(module_workshop: Workshop) -> ReleaseResult:
    """`north`, where one thing changes after another; `dim`, whose data change; `torn`, whose engine's file does."""
    module_workshop.add("dim")
    module_workshop.add("north", precision="FP32")
    module_workshop.add("torn", PORTABLE, precision="FP32")
    result = release(ADDRESS)
    assert [row.decision for row in result.rows] == [Decision.APPROVED] * 3
    return result


def _row(result: ReleaseResult, region: str) -> ReleaseRow:
    return next(row for row in result.rows if row.region == region)


ALL_SETS = "(calibration set, still 64 samples, selection set, still 16 samples, gate set, still 400 samples)"


def _planned(region: str) -> PlannedEngine:
    return plan([region]).engines[0]


def test_a_change_of_one_thing_is_named(first: ReleaseResult, module_workshop: Workshop) -> None:
    assert _planned("north").action == "reuse"

    def reason() -> str:
        engine = _planned("north")
        assert engine.action == ("build" if engine.reason == "never built" else "rebuild")
        return engine.reason

    module_workshop.write_model(seed=2)
    assert reason() == "changed: the model (model.onnx)"
    module_workshop.write_model()
    module_workshop.write_data("north", seed=1)
    assert reason() == f"changed: the region's data {ALL_SETS}"
    module_workshop.write_data("north")
    module_workshop.write_policy("north", PORTABLE, precision="FP32")
    assert reason() == "never built", "another target is another engine"
    assert [engine.action for engine in plan(["north"]).engines] == ["build", "retire"]
    module_workshop.write_policy("north", precision="FP32", limit=6.0)
    assert reason().startswith("changed: the policy (")
    module_workshop.write_policy("north", precision="FP32")


@pytest.fixture(scope="module")
def second(first: ReleaseResult, module_workshop: Workshop) -> ReleaseResult:
    """After something changed in each region."""
    engine = outcome_of(_row(first, "torn")).engine
    assert engine is not None
    module_workshop.write_policy("north", precision="FP32", limit=6.0)
    module_workshop.write_data("dim", faint=[Split.GATE])
    load_settings().store().path_of(engine.files[0].blob).unlink()
    assert _planned("torn").reason == "its files are no longer in the store"
    return release(ADDRESS)


def test_what_changed_is_rebuilt_and_with_force_what_did_not(first: ReleaseResult, second: ReleaseResult) -> None:
    old, new = _row(first, "north"), _row(second, "north")
    assert new.rebuilt
    assert new.build_key != old.build_key
    assert new.threshold == 6.0
    assert aliases("tiny-north") == {"champion": 2, "previous": 1}

    (forced,) = release(ADDRESS, regions=["north"], force=True).rows
    assert forced.rebuilt
    assert forced.build_key == new.build_key


def test_a_region_that_goes_over_its_threshold_leaves_its_champion_in_place(
    first: ReleaseResult, second: ReleaseResult
) -> None:
    after = _row(second, "dim")
    assert after.decision is Decision.FAILED
    assert after.model_uri is None
    assert after.loss_lower is not None
    assert after.loss_lower > 5.0
    assert exit_code(second) == 1
    assert aliases("tiny-dim") == {"champion": 1}
    assert client().get_model_version("tiny-dim", "1").tags["build_key"] == _row(first, "dim").build_key


def test_an_engine_that_is_gone_is_built_again_and_a_damaged_one_is_refused(
    first: ReleaseResult, second: ReleaseResult
) -> None:
    again = _row(second, "torn")
    assert again.rebuilt
    assert again.build_key == _row(first, "torn").build_key
    engine = outcome_of(again).engine
    assert engine is not None
    path = load_settings().store().path_of(engine.files[0].blob)
    verify_file(path, engine.files[0].blob.digest)

    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = release(ADDRESS, regions=["torn"])
    (damaged,) = result.rows
    assert damaged.failure is not None
    assert damaged.failure.kind == "IntegrityError"
    assert "delete it and run again" in damaged.failure.remedy
    assert exit_code(result) == 1

"""Released before: what a change rebuilds, and what it leaves in place."""

from __future__ import annotations

from flows.release import release
from regiolect.cli.exit_codes import exit_code
from regiolect.contracts import Decision, Split
from regiolect.integrity import verify_file
from regiolect.settings import load_settings
from tests.flows.kept import aliases, client, outcome_of, plan
from tests.flows.tiny_models import ADDRESS, PORTABLE, Workshop


def test_a_change_of_one_thing_rebuilds_and_is_named(workshop: Workshop) -> None:
    workshop.add("north", precision="FP32")
    before = release(ADDRESS)
    assert plan().engines[0].action == "reuse"

    def reason() -> str:
        engine = plan().engines[0]
        assert engine.action == ("build" if engine.reason == "never built" else "rebuild")
        return engine.reason

    workshop.write_model(seed=2)
    assert reason() == "changed: the model (model.onnx)"
    workshop.write_model()
    workshop.write_data("north", seed=1)
    assert reason() == "changed: the region's data"
    workshop.write_data("north")
    workshop.write_policy("north", PORTABLE, precision="FP32")
    assert reason() == "never built", "another target is another engine"
    assert [engine.action for engine in plan().engines] == ["build", "retire"]
    workshop.write_policy("north", precision="FP32", limit=6.0)
    assert reason().startswith("changed: the policy (")

    after = release(ADDRESS)
    (old,), (new,) = before.rows, after.rows
    assert new.rebuilt
    assert new.build_key != old.build_key
    assert new.threshold == 6.0
    assert aliases("tiny-north") == {"champion": 2, "previous": 1}

    forced = release(ADDRESS, force=True)
    assert forced.rows[0].rebuilt
    assert forced.rows[0].build_key == new.build_key


def test_a_region_that_goes_over_its_threshold_leaves_its_champion_in_place(workshop: Workshop) -> None:
    workshop.add("north")
    (before,) = release(ADDRESS).rows
    assert before.decision is Decision.APPROVED
    workshop.write_data("north", faint=[Split.GATE])
    result = release(ADDRESS)
    (after,) = result.rows
    assert after.decision is Decision.FAILED
    assert after.model_uri is None
    assert after.loss_lower is not None
    assert after.loss_lower > 5.0
    assert exit_code(result) == 1
    assert aliases("tiny-north") == {"champion": 1}
    assert client().get_model_version("tiny-north", "1").tags["build_key"] == before.build_key


def test_an_engine_that_is_gone_is_built_again_and_a_damaged_one_is_refused(workshop: Workshop) -> None:
    workshop.add("north", PORTABLE, precision="FP32")
    (row,) = release(ADDRESS).rows
    engine = outcome_of(row).engine
    assert engine is not None
    path = load_settings().store().path_of(engine.files[0].blob)
    path.unlink()
    assert plan().engines[0].reason == "its files are no longer in the store"
    (again,) = release(ADDRESS).rows
    assert again.rebuilt
    assert again.build_key == row.build_key
    verify_file(path, engine.files[0].blob.digest)

    path.write_bytes(path.read_bytes()[:-1] + b"?")
    result = release(ADDRESS)
    (damaged,) = result.rows
    assert damaged.failure is not None
    assert damaged.failure.kind == "IntegrityError"
    assert "delete it and run again" in damaged.failure.remedy
    assert exit_code(result) == 1

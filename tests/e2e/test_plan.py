"""`regiolect plan` as people and programs meet it: its table, its JSON, and what its exit code says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regiolect.planning import PlanDocument
from tests.e2e.terminal import Terminal, assert_refused, terminal_in
from tests.flows.tiny_models import ADDRESS

FLOAT = f"{ADDRESS}_FLOAT"
NOWHERE = "tests.flows.nowhere:MODEL"


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return terminal_in(tmp_path)


def break_north(terminal: Terminal) -> None:
    policy = terminal.workshop.policies / "north.yaml"
    policy.write_text(policy.read_text().replace("limit:", "limt:"))


def test_plan_says_what_would_be_built_and_why_and_starts_nothing(terminal: Terminal, tmp_path: Path) -> None:
    said = terminal.telling("plan", ADDRESS)
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("tiny")
    assert said.stdout.count("never built") == 3
    *_, summary, code, loaded = said.stdout.splitlines()
    assert summary == "3 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire"
    assert (code, loaded) == ("exit 0", "loaded []")
    assert not (tmp_path / "home").exists(), "neither a store nor a server was set up"


def test_json_is_the_whole_plan_and_nothing_else(terminal: Terminal) -> None:
    said = terminal("plan", ADDRESS, "--json")
    assert (said.returncode, said.stderr) == (0, "")
    document = PlanDocument.model_validate_json(said.stdout)
    assert (document.format, document.work) == (1, True)
    assert json.loads(said.stdout)["summary"] == {
        "build": 3,
        "rebuild": 0,
        "promote": 0,
        "reuse": 0,
        "carry": 0,
        "refuse": 0,
        "retire": 0,
        "drop": 0,
        "skip": 0,
    }
    (model,) = document.models
    assert [(engine.region, engine.target, engine.backend, engine.action) for engine in model.engines] == [
        ("east", "cpu", "openvino", "build"),
        ("north", "cpu", "openvino", "build"),
        ("north", "gpu", "tensorrt-rtx", "build"),
    ]
    assert terminal.here("plan", ADDRESS, "--json").stdout == said.stdout, "the same state of things, the same bytes"


def test_a_request_that_is_wrong_leaves_stdout_to_no_half_document(terminal: Terminal) -> None:
    assert_refused(terminal.here("plan", NOWHERE, "--json"), 2, "UnknownModel")


def test_an_unusable_region_is_told_beside_the_others_and_a_script_learns_of_it(terminal: Terminal) -> None:
    break_north(terminal)
    said = terminal.here("plan", ADDRESS)
    assert said.returncode == 1
    assert said.stdout.splitlines()[-1] == "1 to build, 0 to rebuild, 0 unchanged, 1 refused, 0 to retire"
    assert "north: InvalidPolicy" in said.stdout
    assert "regiolect policies validate" in said.stdout


@pytest.mark.parametrize(("arguments", "code"), [((), 3), (("--json",), 3), (("--targets", "cpus"), 2)])
def test_with_exit_code_work_has_a_code_that_no_error_has(
    terminal: Terminal, arguments: tuple[str, ...], code: int
) -> None:
    assert terminal.here("plan", ADDRESS, "--exit-code", *arguments).returncode == code


def test_with_exit_code_a_refusal_hides_no_work_and_is_no_work(terminal: Terminal) -> None:
    break_north(terminal)
    assert terminal("plan", ADDRESS, "--exit-code").returncode == 3
    assert terminal.here("plan", ADDRESS, "--exit-code", "--regions", "north").returncode == 1


def test_the_exit_codes_are_explained_where_they_are_asked_for(terminal: Terminal) -> None:
    told = " ".join(terminal.here("plan", "--help").stdout.split())
    assert "Exit code 0; 1 if something is refused" in told
    assert "With --exit-code, 3 if there is work" in told


def test_a_plan_that_was_kept_is_run_as_it_was_or_not_at_all(terminal: Terminal, tmp_path: Path) -> None:
    kept = str(tmp_path / "kept.json")
    said = terminal.here("plan", ADDRESS, "--regions", "east", "--out", kept)
    assert (said.returncode, said.stdout) == (0, terminal.here("plan", ADDRESS, "--regions", "east").stdout)
    terminal.workshop.write_policy("east", precision="FP16", limit=4.0)
    told = "east cpu: build; changed: the policy (accuracy.limit 5 -> 4)"
    assert_refused(terminal.here("run", "--plan", kept), 1, "OutdatedPlan", told, f"regiolect plan {ADDRESS} --out")
    assert_refused(terminal.here("run", FLOAT, "--plan", kept), 2, "UsageError", f"a plan of {FLOAT}")
    assert_refused(terminal.here("run"), 2, "UsageError", "regiolect init")
    assert_refused(terminal.here("plan", ADDRESS, FLOAT, "--out", kept), 2, "UsageError", "one model")


# ------------------------------------------------------------------------------------------------ several models


def test_several_models_are_planned_in_their_order_and_one_that_fails_stops_no_other(terminal: Terminal) -> None:
    said = terminal.here("plan", ADDRESS, NOWHERE, FLOAT, "--json")
    assert said.returncode == 1
    models = PlanDocument.model_validate_json(said.stdout).models
    assert [model.model for model in models] == [ADDRESS, NOWHERE, FLOAT]
    assert [len(model.engines) for model in models] == [3, 0, 3]
    assert models[1].failure is not None
    assert models[1].failure.kind == "UnknownModel"
    table = terminal.here("plan", ADDRESS, NOWHERE, FLOAT).stdout
    assert f"{NOWHERE}: UnknownModel" in table
    assert table.splitlines()[-1] == (
        "3 models: 6 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire; 1 of 3 models cannot be planned"
    )


def test_without_a_name_all_known_models_are_planned(terminal: Terminal) -> None:
    assert_refused(terminal.here("plan"), 2, "UnknownModel", "REGIOLECT_MODELS")
    known = Terminal(terminal.workshop, {"REGIOLECT_MODELS": f"{ADDRESS},{FLOAT}"})
    assert known.here("plan").stdout.splitlines()[-1].startswith("2 models: 6 to build")


@pytest.mark.parametrize(
    ("option", "name", "error", "told"),
    [
        ("--regions", "nort", "UnknownRegion", "did you mean 'north'?"),
        ("--targets", "gpus", "UnknownTarget", "did you mean 'gpu'?"),
        ("--regions", "dry", "UnknownRegion", "none of which has any"),
    ],
)
def test_a_region_or_target_that_no_model_has_is_a_wrong_request(
    terminal: Terminal, option: str, name: str, error: str, told: str
) -> None:
    terminal.workshop.write_policy("dry")
    assert_refused(terminal.here("plan", ADDRESS, FLOAT, option, name), 2, error, told)

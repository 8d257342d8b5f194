"""What commands are told: names that name nothing mean nothing, `--json` is one option everywhere, a model may be the
project's, and shells complete."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.cli.options import Telling, names_in
from regiolect.errors import StorageError, UnknownModel, UsageError
from regiolect.settings import PROJECT_FILE, QUIET, Settings, variable

SILENT = {
    *("init", "promote", "down", "policies copy", "policies schema"),
    *("keys create", "keys rotate", "keys retire", "keys revoke", "pools apply", "pools write"),
}
"""Commands that do something, and tell of that alone."""


@pytest.mark.parametrize("given", ["", " ", ",", " , ,"])
@pytest.mark.parametrize(
    "command",
    [
        ["run", "a.b:MODEL", "--regions"],
        ["run", "a.b:MODEL", "--targets"],
        ["plan", "-r"],
        ["nightly", "--regions"],
        ["tune", "a.b:MODEL", "--regions"],
        ["study", "calibration", "a.b:MODEL", "-n", "2", "--regions"],
        ["doctor", "--regions"],
        ["up", "--only"],
    ],
    ids=" ".join,
)
def test_an_option_that_a_script_gave_without_a_name_is_refused_before_anything_is_done(
    command: list[str], given: str
) -> None:
    ended = CliRunner().invoke(app, [*command, given])
    assert isinstance(ended.exception, UsageError), ended.output
    assert ended.exception.found == repr(given)
    assert "leave --" in ended.exception.remedy


def test_names_are_those_between_commas_and_all_are_meant_where_the_option_is_left_out() -> None:
    assert names_in("eu, de,") == ["eu", "de"]
    assert names_in("") is None
    with pytest.raises(UsageError):
        names_in(" ,")


def commands(group: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for own, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, f"{name}{own} ")
        else:
            yield f"{name}{own}", command


def test_each_command_that_tells_facts_takes_the_same_option() -> None:
    every = dict(commands(typer.main.get_command(app)))
    options = {
        name: [(param.opts, param.metavar, param.help) for param in command.params if "--json" in param.opts]
        for name, command in every.items()
    }
    assert {name for name, found in options.items() if not found} == SILENT
    assert len({str(found) for found in options.values() if found}) == 1
    assert all(isinstance(command, Telling) for name, command in every.items() if name not in SILENT)


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Types `regiolect policies show`, and tells stdout."""
    for name in ("REGIOLECT_POLICIES", "MLFLOW_TRACKING_URI"):
        # Set before it is deleted, so that what the command puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("REGIOLECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def typed(*arguments: str) -> str:
        done = CliRunner().invoke(app, ["policies", "show", *arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.stdout

    return typed


@pytest.mark.parametrize(
    "arguments", [("eu", "--json"), ("--json", "eu"), ("--json", "-", "eu"), ("eu", "--json=-"), ("--json", "--", "eu")]
)
def test_json_without_a_file_takes_the_place_of_words(listed: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert json.loads(listed(*arguments))["region"] == "eu"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [("eu", "--json", "a.json"), ("--json", "a.json", "eu"), ("eu", "--json=a")])
def test_json_in_a_file_stands_beside_the_words(listed: Any, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    assert listed(*arguments) == listed("eu")
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["region"] == "eu"


def test_a_file_that_cannot_be_written_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    ended = CliRunner().invoke(app, ["run", "no.such:MODEL", f"--json={tmp_path / 'file' / 'a.json'}"])
    assert isinstance(ended.exception, StorageError)


# ------------------------------------------------------------------------------------------------- a project's model


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of a project, in the working directory."""
    for name in [*QUIET, "PREFECT_HOME", "MLFLOW_TRACKING_URI", PROJECT_FILE, *map(variable, Settings.model_fields)]:
        # Set before it is deleted, so that what a command puts there is taken away again.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("REGIOLECT_ISOLATION", "off")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "regiolect.toml"


WITH_A_MODEL = [["run"], ["plan"], ["tune"], ["study", "calibration", "-n", "2"]]


@pytest.mark.parametrize("command", WITH_A_MODEL, ids=" ".join)
def test_a_command_that_is_told_no_model_takes_the_projects(project: Path, command: list[str]) -> None:
    project.write_text('model = "no.such:MODEL"')
    ended = CliRunner().invoke(app, command)
    assert isinstance(ended.exception, UnknownModel), ended.output
    assert "'no.such:MODEL'" in ended.exception.expected
    ended = CliRunner().invoke(app, [*command, "another:MODEL"])
    assert isinstance(ended.exception, UnknownModel), ended.output
    assert "'another:MODEL'" in ended.exception.expected


@pytest.mark.parametrize("command", WITH_A_MODEL, ids=" ".join)
def test_without_a_model_of_the_project_the_remedy_says_what_to_write(project: Path, command: list[str]) -> None:
    ended = CliRunner().invoke(app, command)
    assert isinstance(ended.exception, UsageError), ended.output
    assert 'model = "package.module:NAME"' in ended.exception.remedy


def test_a_model_that_a_script_left_empty_is_not_the_projects(project: Path) -> None:
    project.write_text('model = "no.such:MODEL"')
    ended = CliRunner().invoke(app, ["run", ""])
    assert isinstance(ended.exception, UnknownModel), ended.output
    assert "no.such" not in ended.exception.expected


# ------------------------------------------------------------------------------------------------- completion


def completed(line: str) -> list[str]:
    """What a shell is told when TAB is pressed at the end of a line."""
    words = {"COMP_WORDS": f"regiolect {line}", "COMP_CWORD": str(len(line.split(" ")))}
    ended = CliRunner().invoke(app, [], prog_name="regiolect", env={"_REGIOLECT_COMPLETE": "complete_bash", **words})
    return ended.stdout.split()


def test_commands_models_and_the_last_of_several_regions_are_completed(project: Path) -> None:
    project.write_text('model = "shop:MODEL"\nmodels = ["other:MODEL", "o$(touch x)"]\npolicies = "policies"')
    (project.parent / "policies").mkdir()
    for region in ("eu", "na", "nz"):
        (project.parent / "policies" / f"{region}.yaml").write_text(f"region: {region}")
    assert completed("pol") == ["policies"]
    assert completed("run sh") == ["shop:MODEL"]
    assert completed("tune o") == ["other:MODEL"]
    assert completed("run --regions eu,n") == ["eu,na", "eu,nz"]
    assert completed("run --regions na,n") == ["na,nz"]
    assert completed("run --policies nowhere --regions n") == []


def test_where_settings_cannot_be_read_completion_is_silent(project: Path) -> None:
    project.write_text("half of a li")
    assert completed("run sh") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_is_given_its_own_script_and_answered_by_it(project: Path, shell: str) -> None:
    asked = {"_REGIOLECT_COMPLETE": f"source_{shell}"}
    script = CliRunner().invoke(app, [], prog_name="regiolect", env=asked).stdout
    assert f"_REGIOLECT_COMPLETE=complete_{shell}" in script
    line = {"COMP_WORDS": "regiolect polic", "COMP_CWORD": "1", "_TYPER_COMPLETE_ARGS": "regiolect polic"}
    answering = {"_REGIOLECT_COMPLETE": f"complete_{shell}", "_TYPER_COMPLETE_FISH_ACTION": "get-args", **line}
    assert "policies" in CliRunner().invoke(app, [], prog_name="regiolect", env=answering).stdout

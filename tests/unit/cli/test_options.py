"""An option of names that names nothing means nothing, rather than everything; `--json` is one option everywhere."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.testing import CliRunner

from regiolect.cli.app import app
from regiolect.cli.options import Telling, names_in
from regiolect.errors import StorageError, UsageError

SILENT = {
    *("promote", "down", "policies copy", "policies schema"),
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

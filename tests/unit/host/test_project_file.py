"""A project's file: the nearest counts, others' files do not matter, and one that cannot be read is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from regiolect.errors import InvalidSetting
from regiolect.host.project_file import find_project_file

TABLE = '[tool.regiolect]\nmodel = "shared:MODEL"\n'


def model_of(folder: Path) -> object:
    found = find_project_file(folder)
    return found and found.stated["model"]


def test_the_nearest_from_the_folder_upwards_counts_and_of_two_the_one_of_its_own(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    assert find_project_file(inner) is None
    (tmp_path / "pyproject.toml").write_text(TABLE)
    assert model_of(inner) == "shared:MODEL"
    (tmp_path / "regiolect.toml").write_text('model = "own:MODEL"')
    assert model_of(inner) == "own:MODEL"
    (tmp_path / "a" / "pyproject.toml").write_text(TABLE)
    assert model_of(inner) == "shared:MODEL"


@pytest.mark.parametrize(
    "table",
    [
        TABLE,
        '[tool]\nregiolect = {model = "shared:MODEL"}',
        '[ "tool" . regiolect ]\nmodel = "shared:MODEL"',
        'tool.regiolect.model = "shared:MODEL"',
        'tool = {regiolect = {model = "shared:MODEL"}}',
    ],
)
def test_the_table_is_found_however_it_is_written(tmp_path: Path, table: str) -> None:
    (tmp_path / "pyproject.toml").write_text(table)
    assert model_of(tmp_path) == "shared:MODEL"


@pytest.mark.parametrize(
    "others", ["[tool.ruff]\nline-length = 100", "[project]\ndependencies = ['regiolect']", "this is = no TOML ="]
)
def test_a_file_of_other_tools_is_passed_by(tmp_path: Path, others: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "pyproject.toml").write_text(others)
    (tmp_path / "regiolect.toml").write_text('model = "own:MODEL"')
    assert model_of(tmp_path / "a") == "own:MODEL"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("regiolect.toml", b"model = "),
        ("regiolect.toml", b"model = '\xff'"),
        ("regiolect.toml", b"model = " + b"[" * 10_000),
        ("pyproject.toml", b"[tool.regiolect]\nmodel = "),
        ("pyproject.toml", b"[tool]\nregiolect = 3"),
    ],
    ids=["unfinished", "no text", "too deep", "unfinished table", "no table"],
)
def test_what_cannot_be_understood_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InvalidSetting) as error:
        find_project_file(tmp_path)
    assert str(tmp_path / name) in error.value.expected


@pytest.mark.parametrize(
    "put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")], ids=["folder", "pipe", "link"]
)
def test_what_is_no_file_is_named_and_not_waited_for(tmp_path: Path, put) -> None:  # type: ignore[no-untyped-def]
    put(tmp_path / "regiolect.toml")
    with pytest.raises(InvalidSetting, match=r"regiolect\.toml"):
        find_project_file(tmp_path)

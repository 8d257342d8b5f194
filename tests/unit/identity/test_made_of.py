"""What a thing is made of: code that it holds counts, and a change of what it was made with shows."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from regiolect.identity.made_of import made_of
from regiolect.identity.source_code import Code, code_of
from tests.unit.identity.cases import CHANGES, FILES, HOLDERS, MORE
from tests.unit.identity.held import load


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("project")
    cases = [*HOLDERS.values(), *(each for change in CHANGES for each in change), *MORE]
    given = "".join(f"    {each!r}: lambda: {each},\n" for each in cases)
    for name, text in FILES.items():
        (made / f"{name}.py").write_text(text + (f"GIVEN = {{\n{given}}}\n" if name == "spec" else ""))
    return made


@pytest.fixture
def of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Code]]:
    """The code of what an expression in spec.py gives."""
    monkeypatch.syspath_prepend(folder)
    import spec

    def made(expression: str) -> Code:
        return code_of([made_of(spec.GIVEN[expression](), sys.path)], sys.path)

    yield made
    for name in FILES:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_code_that_a_thing_holds_counts_with_what_it_imports(of: Callable[[str], Code], holder: str) -> None:
    assert {"net.py", "blocks.py"} <= of(HOLDERS[holder]).files.keys()


@pytest.mark.parametrize(("one", "other"), CHANGES)
def test_a_change_of_what_a_thing_was_made_with_shows(of: Callable[[str], Code], one: str, other: str) -> None:
    assert of(one) == of(one)
    assert of(one) != of(other)


@pytest.mark.parametrize("at", [0, 1, 38, 41, 59])
def test_what_is_near_counts_though_it_was_met_first_where_a_long_chain_ends(
    of: Callable[[str], Code], at: int
) -> None:
    chained = sys.modules["spec"].chained
    one, other = (made_of(chained(at, width), sys.path).settings for width in (1, 2))
    assert one != other


def test_what_fills_up_a_field_or_a_number_does_not_count(of: Callable[[str], Code]) -> None:
    def settings(value: object) -> tuple[str, ...]:
        return made_of(functools.partial(load, value), sys.path).settings

    filled_up = sys.modules["spec"].filled_up
    assert settings(filled_up(1.0, 0)) == settings(filled_up(1.0, 255))
    raw = [np.full(32, fill, np.uint8).view(np.longdouble) for fill in (0, 255)]
    for numbers in raw:
        numbers[:] = 1
    assert settings(raw[0]) == settings(raw[1]) and settings(raw[0][0]) == settings(raw[1][0])


IN_A_PROCESS = """
import sys
from regiolect.identity.made_of import made_of
import spec
for make in spec.GIVEN.values():
    print(made_of(make(), sys.path).settings)
"""


def test_it_is_the_same_in_every_process_and_wherever_the_project_lies(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "deeper"
    shutil.copytree(folder, moved)

    def said(place: Path, seed: str) -> list[str]:
        path = os.pathsep.join((str(place), str(Path(__file__).parents[3])))
        done = subprocess.run(
            [sys.executable, "-c", IN_A_PROCESS],
            env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.splitlines()

    here, there = said(folder, "1"), said(moved, "2")
    assert len(here) > len(HOLDERS) + len(CHANGES)
    assert [each for each in zip(here, there, strict=True) if each[0] != each[1]] == []


AT = """
import functools, sys
sys.path.insert(0, sys.argv[1])
import makers_of_mine
from regiolect.model import ModelSpec
from regiolect.identity.made_of import made_of
print(made_of(functools.partial(makers_of_mine.load, sys.argv[2]), sys.path).settings)
"""


def test_a_text_counts_as_it_does_in_another_working_folder(tmp_path: Path) -> None:
    for name in ("code", "data"):
        (tmp_path / name).mkdir()
    (tmp_path / "code" / "makers_of_mine.py").write_text("def load(path): ...\n")

    def said(folder: Path, text: Path) -> str:
        return subprocess.run(
            [sys.executable, "-c", AT, str(tmp_path / "code"), str(text)],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    for text in (tmp_path / "data" / "eu.csv", tmp_path / "code" / "eu.csv"):
        assert len({said(folder, text) for folder in (tmp_path, tmp_path / "data", tmp_path / "code")}) == 1
    # A project lies elsewhere on every machine.
    assert "path to 'eu.csv'" in said(tmp_path / "code", tmp_path / "code" / "eu.csv")
    assert str(tmp_path) in said(tmp_path, tmp_path / "data" / "eu.csv")

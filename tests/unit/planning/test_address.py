"""A model's address: found by it, told the right one, and never taken for what its file no longer says."""

from __future__ import annotations

import os
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from regiolect.errors import ChangedMeanwhile, InvalidModelSpec, UnknownModel
from regiolect.planning import address_of, load_model_spec, require_current
from regiolect.settings import PROJECT_FILE


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a module `mine` that has a spec NET."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "weights.onnx").write_bytes(b"weights")
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\n"
        "from regiolect.contracts import TensorSpec\n"
        "from regiolect.evaluate.metrics import top1\n"
        "from regiolect.model import ModelSpec\n"
        "NET = ModelSpec(name='mine', loader=Path(__file__).parent / 'weights.onnx', outputs=('y',), data={},\n"
        "                inputs=(TensorSpec(name='x', shape=('batch', 3)),), metrics={'accuracy': top1})\n"
        "NUMBER = 3\n"
    )
    # Each test has a module of its own under that name.
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def test_a_spec_is_found_in_the_working_directory(package: Path) -> None:
    assert load_model_spec("mine:NET").name == "mine"


def test_a_spec_is_found_beside_the_projects_file_from_a_folder_below(
    package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(package)])
    monkeypatch.setenv(PROJECT_FILE, str(package / "regiolect.toml"))
    (package / "inner").mkdir()
    monkeypatch.chdir(package / "inner")
    assert load_model_spec("mine:NET").name == "mine"


def test_a_module_that_fails_is_told_with_the_line_that_does(package: Path) -> None:
    with (package / "mine.py").open("a") as file:
        file.write("import other\n")
    (package / "other.py").write_text(
        "def fill_in(what):\n    raise NotImplementedError(what)\nX = fill_in(\n    'it')\n"
    )
    with pytest.raises(InvalidModelSpec, match=r"NotImplementedError: it \(other\.py, line 3\)"):
        load_model_spec("mine:NET")


def test_a_spec_is_found_by_its_entry_point(package: Path) -> None:
    installed = package / "mine-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    (installed / "entry_points.txt").write_text("[regiolect.models]\nmy-net = mine:NET\n")
    assert load_model_spec("my-net").name == "mine"
    with pytest.raises(UnknownModel, match=r"entry points: .*my-net"):
        load_model_spec("my-nett")


@pytest.mark.parametrize(
    ("address", "error", "told"),
    [
        ("no.such.module:NET", UnknownModel, "no module 'no.such.module'"),
        ("", UnknownModel, "check the spelling"),
        ("mine:NOT", UnknownModel, "name one: mine:NET"),
        ("mine", UnknownModel, "name one: mine:NET"),
        ("mine:NUMBER", InvalidModelSpec, "found int"),
    ],
)
def test_a_wrong_address_is_told_the_right_one(package: Path, address: str, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        load_model_spec(address)


@pytest.mark.parametrize("text", ["1 / 0", "def (", "import no_such_thing_anywhere"])
def test_a_module_that_does_not_import_is_told_why(package: Path, text: str) -> None:
    (package / "mine.py").write_text(text)
    with pytest.raises(InvalidModelSpec, match="mend it until this works: python -c"):
        load_model_spec("mine:NET")


def test_a_spec_of_a_module_has_an_address_and_one_of_nowhere_has_none(package: Path) -> None:
    found = load_model_spec("mine:NET")
    assert address_of(found) == "mine:NET"
    assert load_model_spec(address_of(found)) is found
    with pytest.raises(InvalidModelSpec, match=r"only this script.*regiolect\.run"):
        address_of(replace(found))


def test_a_model_whose_file_says_something_else_by_now_is_not_taken_for_what_was_imported(package: Path) -> None:
    require_current("mine:NET")
    load_model_spec("mine:NET")
    require_current("mine:NET")
    code, now = package / "mine.py", time.time()
    # As long ago as a file may be, and from a clock that is ahead.
    for changed in (now - 60, now + 3600):
        os.utime(code, (changed, changed))
        require_current("mine:NET")
    code.write_text(code.read_text() + "# corrected")
    with pytest.raises(ChangedMeanwhile, match=r"mine\.py changed since.*restart"):
        require_current("mine:NET")
    del sys.modules["mine"]
    load_model_spec("mine:NET")
    require_current("mine:NET")

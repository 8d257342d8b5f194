"""Backends are listed once: Regiolect's own by one line each, and those that other distributions bring."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from regiolect.contracts import Precision, Target
from regiolect.engines import catalog, listed
from regiolect.engines.base import Backend
from regiolect.engines.catalog import backend
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.errors import BackendUnavailable, BuildFailed, UnknownBackend
from regiolect.planning.request import machine_parts
from tests.toy import installed

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    """What was asked before is asked again, within a test and after it."""
    for cached in (catalog.backend, listed._brought):
        cached.cache_clear()
    yield
    for cached in (catalog.backend, listed._brought):
        cached.cache_clear()


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The toy backend's distribution is installed."""
    for path in installed(tmp_path / "toy"):
        monkeypatch.syspath_prepend(path)


def bring(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str, point: str) -> None:
    """A distribution is installed that names a backend."""
    place = folder / f"{name}-2.0.dist-info"
    place.mkdir()
    (place / "METADATA").write_text(f"Metadata-Version: 2.4\nName: {name}\nVersion: 2.0\n")
    (place / "entry_points.txt").write_text(f"[{listed.GROUP}]\n{point}\n")
    monkeypatch.syspath_prepend(str(folder))


# ------------------------------------------------------------------------------------------------ brought by others


def test_a_backend_that_another_distribution_brings_is_one_of_the_catalog(toy: None) -> None:
    assert catalog.names() == (*listed.OWN, "toy")
    assert backend("toy").name == "toy"
    assert backend("toy").installation() == "pip install onnx"
    with pytest.raises(UnknownBackend, match=r"tensorrt-rtx, toy; found 'toys'.*did you mean 'toy'"):
        backend("toys")


def test_it_is_advised_where_engines_of_another_do_not_run(toy: None) -> None:
    assert listed.anywhere() == ("openvino", "onnxruntime", "toy")
    obstacle = backend("tensorrt-rtx")._no_device("no GPU")
    assert obstacle is not None
    assert obstacle.remedy.endswith("name the backend openvino or onnxruntime or toy in the policy's targets")


def test_another_version_of_what_brings_it_is_another_build_key(toy: None) -> None:
    assert "brought by regiolect-toy 1.0" in machine_parts(Target(name="here", backend="toy"))["backend"]
    assert "brought by" not in machine_parts(Target(name="here", backend="openvino"))["backend"]


def test_a_precision_that_a_backend_does_not_have_is_refused_by_name(toy: None) -> None:
    with pytest.raises(BuildFailed, match=r"a precision that toy has: FP32; found INT8, .*name another backend"):
        backend("toy").recipe(Precision.INT8, None)


def test_nothing_takes_the_place_of_regiolects_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bring(tmp_path, monkeypatch, "sly", "openvino = no_such_module:Sly")
    assert catalog.names() == tuple(listed.OWN)
    assert type(backend("openvino")) is OpenVinoBackend
    assert not listed.brought_by("openvino")


@pytest.mark.parametrize(
    ("point", "expected", "found", "remedy"),
    [
        ("no_such_module:Odd", "no_such_module:Odd, as the distribution odd says", "no_such_module", "uninstall odd"),
        ("tests.toy:Odd", "tests.toy:Odd, as the distribution odd says", "Odd", "pip uninstall odd"),
        ("tests.toy:installed", "a subclass of regiolect.engines.base.Backend", "function installed", "entry point"),
        (
            "regiolect.engines.openvino.backend:OpenVinoBackend",
            "a subclass of regiolect.engines.base.Backend whose `name` is 'odd'",
            "with the name 'openvino'",
            "mend the entry point 'odd'",
        ),
        ("tests.unit.engines.test_listed:Unwritten", "every attribute", "without distribution", "write them"),
        (
            "tests.unit.engines.test_listed:Named",
            "a subclass of regiolect.engines.base.Backend",
            "Named",
            "entry point",
        ),
    ],
)
def test_what_cannot_be_used_is_told_when_it_is_asked_for_and_is_no_advice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, expected: str, found: str, remedy: str
) -> None:
    bring(tmp_path, monkeypatch, "odd", f"odd = {point}")
    with pytest.raises(BackendUnavailable) as refused:
        backend("odd")
    assert expected in refused.value.expected
    assert found in refused.value.found
    assert remedy in refused.value.remedy
    assert "odd" not in listed.anywhere()


class Unwritten(Backend):
    """A backend with hardly anything."""

    name = "odd"


class Named:
    """No backend."""

    name = "odd"


def test_two_of_one_name_are_told_with_what_brings_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "other"):
        bring(tmp_path, monkeypatch, name, "twice = tests.toy:installed")
    with pytest.raises(BackendUnavailable, match=r"distributions (one, other|other, one)"):
        backend("twice")


# ------------------------------------------------------------------------------------------------ named in one place

# By file: why it spells the name of a backend.
EXCEPTIONS: Mapping[str, str] = {
    "regiolect/identity/toolchain.py": "as a tool that exports, calibrates and measures for all backends; its version "
    "is a part of every build key, which must not change",
}
# The word that a backend's names and its library's have in common.
WORDS = re.compile("|".join({path.split(".")[2] for path in listed.OWN.values()}), re.IGNORECASE)


def test_a_backend_is_named_by_its_folder_and_its_line_alone() -> None:
    """Whoever adds a backend finds no list, `if` or advice elsewhere that would have to name it, too."""
    assert WORDS.pattern.count("|") == 2 and all(WORDS.search(name) for name in listed.OWN)
    files = [
        file
        for package in ("regiolect", "tasks", "flows", "data_checks")
        for file in (ROOT / package).rglob("*")
        if file.suffix in (".py", ".j2", ".html") and not file.is_relative_to(ROOT / "regiolect" / "engines")
    ]
    spelled = {str(file.relative_to(ROOT)): found for file in files if (found := sorted(set(_spelled(file))))}
    assert spelled.keys() == EXCEPTIONS.keys(), spelled


def _spelled(file: Path) -> Iterator[str]:
    """Lines of code, comments and docstrings left out, that spell the name of a backend."""
    text = file.read_text()
    if file.suffix != ".py":
        yield from (line for line in text.splitlines() if WORDS.search(line))
        return
    for node in ast.walk(ast.parse(text)):
        for name, value in ast.iter_fields(node):
            told = value if isinstance(value, list) else [value]
            docstring = isinstance(node, ast.Expr) or (name == "value" and getattr(node, "_is_docstring", False))
            yield from (each for each in told if isinstance(each, str) and not docstring and WORDS.search(each))
        # Parents come before their children.
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            node.value._is_docstring = True  # type: ignore[attr-defined]


def test_base_names_no_backend() -> None:
    """Its advice is made of the list."""
    for name in ("base", "library", "obstacle", "engine", "inputs", "files", "origin", "selftest", "arithmetic"):
        assert not list(_spelled(ROOT / "regiolect" / "engines" / f"{name}.py")), name

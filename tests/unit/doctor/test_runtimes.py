"""Several distributions of ONNX Runtime's module: what is told of them, and advice that never makes two of one."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path

import pytest

from regiolect.doctor import installation, runtimes

Install = Callable[[str, str], None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a distribution beside those that are installed, as pip's records tell of it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def put(name: str, version: str) -> None:
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        importlib.invalidate_caches()

    return put


@pytest.fixture
def without_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine on which the distribution `onnxruntime` is not installed."""
    ask = importlib.metadata.version

    def version(name: str) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return ask(name)

    monkeypatch.setattr(importlib.metadata, "version", version)


def test_one_runtime_is_nothing_to_tell_of() -> None:
    assert list(runtimes.installed()) == ["onnxruntime"]
    assert list(runtimes.beside(["onnxruntime", "onnxruntime-cuda"])) == []


def test_of_two_runtimes_it_is_told_which_is_imported_and_how_one_is_left(install: Install) -> None:
    import onnxruntime

    install("onnxruntime-gpu", "1.28.0")
    (found,) = runtimes.beside(["openvino"])
    assert found.verdict == "wrong"
    here = f"onnxruntime {onnxruntime.__version__}"
    assert found.found.startswith(f"{here} and onnxruntime-gpu 1.28.0 overwrite each other's files")
    assert found.found.endswith(f"imported is {here} from {Path(onnxruntime.__file__).parent}")
    both = "pip uninstall --yes onnxruntime onnxruntime-gpu && "
    assert found.remedy == f"{both}pip install 'regiolect[onnxruntime]'"
    (found,) = runtimes.beside(["onnxruntime", "onnxruntime-cuda"])
    assert found.remedy == f"{both}pip install 'regiolect[onnxruntime-cuda]'", "it runs engines of both"


def test_no_advice_installs_a_second_runtime(install: Install, without_reference: None) -> None:
    install("onnxruntime-gpu", "1.31.1")
    advice = "pip install 'regiolect[release]'; then again"
    assert installation.harmless(advice).startswith("pip install '")
    assert not {"regiolect[release]", "onnxruntime"} & set(installation.harmless(advice).replace("'", " ").split())
    assert "onnxruntime" not in installation.harmless(advice)
    install("great-expectations", "0.1")
    assert installation.harmless(advice) == "pip install 'great-expectations<2,>=1.24'; then again"
    for other in ("pip install 'regiolect[registry]'", "pip install 'regiolect[onnxruntime-cuda]'", "see its log"):
        assert installation.harmless(other) == other


def test_an_extra_is_installed_whole_where_that_breaks_nothing() -> None:
    assert installation.harmless("pip install 'regiolect[release]'") == "pip install 'regiolect[release]'"


def test_what_nobody_asks_for_is_told_and_no_advice(install: Install) -> None:
    told = {finding.name: finding for finding in installation.packages(asked=["tensorrt"])}
    cuda, tensorrt = told["packages: onnxruntime-cuda"], told["packages: tensorrt"]
    assert (cuda.verdict, cuda.remedy) == ("note", "")
    assert cuda.found.endswith("; nothing here asks for it")
    assert (tensorrt.verdict, tensorrt.remedy.startswith("pip install 'regiolect[tensorrt]'")) == ("note", True)

"""What a backend takes for a difference between an engine and a machine, and what keeps an engine from running."""

from __future__ import annotations

import importlib
import importlib.metadata
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from regiolect.contracts import EngineArtifact, Misfit
from regiolect.engines import catalog
from regiolect.engines.obstacle import Obstacle
from regiolect.engines.onnxruntime.backend import OnnxRuntimeBackend
from regiolect.engines.openvino.backend import OpenVinoBackend
from regiolect.errors import NotRunnableHere
from regiolect.host.gpu import Gpu
from regiolect.serving.preflight import preflight
from tests.elsewhere import CPU, ISA

ROOT = Path(__file__).parents[3]
Artifact = Callable[..., EngineArtifact]


@pytest.fixture(params=["openvino", "onnxruntime"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def artifact(bundles, name: str) -> Artifact:
    """An engine as one would be that was built on this machine, but for what `changed` says."""

    def made(version: str = "", **changed: str) -> EngineArtifact:
        here = dict(catalog.backend(name).fingerprint())
        return bundles.artifact(backend=name).model_copy(
            update={"fingerprint": {**here, **changed}, "backend_version": version or here["version"]}
        )

    return made


def test_an_engine_of_this_machine_has_none(artifact: Artifact, name: str) -> None:
    assert catalog.backend(name).misfits(artifact()) == ()


@pytest.mark.parametrize(
    ("what", "value"),
    [("cpu", CPU), ("isa", ISA), ("machine", "aarch64"), ("system", "Windows")],
)
def test_what_is_compiled_at_load_runs_elsewhere_unmeasured(
    artifact: Artifact, name: str, what: str, value: str
) -> None:
    backend = catalog.backend(name)
    host = backend.fingerprint()[what]
    assert backend.misfits(artifact(**{what: value})) == (Misfit(what=what, engine=value, host=host, blocks=False),)


def test_another_version_of_the_library_runs_unmeasured(artifact: Artifact, name: str) -> None:
    backend = catalog.backend(name)
    (misfit,) = backend.misfits(artifact(version="1.2.3"))
    assert misfit == Misfit(what="version", engine="1.2.3", host=backend.version(), blocks=False)


def test_what_one_side_does_not_know_differs(artifact: Artifact, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = catalog.backend(name)
    built, here = artifact(), dict(backend.fingerprint())
    older = built.model_copy(update={"fingerprint": {key: here[key] for key in ("backend", "version", "cpu")}})
    assert [misfit.what for misfit in backend.misfits(older)] == ["machine", "system", "isa"]
    assert {misfit.engine for misfit in backend.misfits(older)} == {"unknown"}
    monkeypatch.setattr(type(backend), "fingerprint", lambda self: {**here, "isa": "unknown"})
    assert [misfit.what for misfit in backend.misfits(artifact())] == ["isa"], "two unknowns need not be alike"


def test_a_library_that_is_not_installed_keeps_an_engine_from_running(bundles) -> None:
    class NotInstalled(OpenVinoBackend):
        distribution = "regiolect-has-no-such-library"

    (misfit,) = NotInstalled().misfits(bundles.artifact(backend="openvino"))
    assert (misfit.what, misfit.engine, misfit.blocks) == ("library", "regiolect-has-no-such-library 1.31.0", True)
    assert misfit.host == "it is not installed"
    assert misfit.remedy == "pip install 'regiolect[openvino]' regiolect-has-no-such-library==1.31.0"


class Fpga(OnnxRuntimeBackend):
    """A backend whose engines are bound to a device, which is not here unless `device` says so."""

    binding = frozenset({"backend", "bitstream"})
    device: str | None = "no FPGA on this machine"
    loader: str | None = "1.0"

    def fingerprint(self) -> Mapping[str, str]:
        return {**super().fingerprint(), "bitstream": "7"}

    def obstacle(self) -> Obstacle | None:
        if self.loader is None:
            return self._no_software("fpga-loader is not installed")
        return None if self.device is None else self._no_device(self.device)


def test_a_missing_device_and_what_an_engine_is_bound_to_are_told_together(bundles) -> None:
    here = dict(Fpga().fingerprint())
    built = bundles.artifact(target="fpga").model_copy(
        update={"fingerprint": {**here, "bitstream": "6"}, "backend_version": here["version"]}
    )
    assert Fpga().misfits(built) == (
        Misfit(what="device", engine="fpga", host="no FPGA on this machine", blocks=True),
        Misfit(what="bitstream", engine="6", host="7", blocks=True),
    )
    named = built.model_copy(update={"fingerprint": {**built.fingerprint, "gpu": "Lattice iCE40"}})
    assert Fpga().misfits(named)[0].engine == "fpga (Lattice iCE40)"
    here_now = Fpga()
    here_now.device = None
    assert [misfit.what for misfit in here_now.misfits(built)] == ["bitstream"]


def test_missing_software_is_no_missing_device(bundles) -> None:
    """What `pip` mends is told so, by the comparison and by whoever loads the engine all the same."""
    without = Fpga()
    without.loader = None
    here = dict(without.fingerprint())
    built = bundles.artifact(target="fpga", backend="onnxruntime").model_copy(
        update={"fingerprint": here, "backend_version": here["version"]}
    )
    assert without.misfits(built) == (
        Misfit(
            what="library",
            engine=f"onnxruntime {here['version']}",
            host="fpga-loader is not installed",
            blocks=True,
            remedy=f"pip install 'regiolect[onnxruntime]' onnxruntime=={here['version']}",
        ),
    )
    with pytest.raises(NotRunnableHere) as caught:
        without.load(built, bundles.store)
    assert (caught.value.found, caught.value.remedy) == (
        "fpga-loader is not installed",
        f"pip install 'regiolect[onnxruntime]' onnxruntime=={here['version']}",
    )


class Installed:
    """What `importlib.metadata` says on a machine that is told and not asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **versions: str) -> None:
        self.versions = {name.replace("_", "-"): version for name, version in versions.items()}
        monkeypatch.setattr(importlib.metadata, "version", self.version)

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise importlib.metadata.PackageNotFoundError(name)
        return self.versions[name]


GPU = Gpu("NVIDIA A10", "8.6", "580.1", "13.0")
PLAIN = "pip install 'regiolect[tensorrt]' --extra-index-url https://pypi.nvidia.com"


@pytest.mark.parametrize(
    ("name", "installed", "found", "remedy"),
    [
        (
            "onnxruntime-cuda",
            {"onnxruntime": "1.31.1"},
            "an onnxruntime without CUDA provider",
            "pip uninstall --yes onnxruntime && pip install 'regiolect[onnxruntime-cuda]'",
        ),
        ("tensorrt-rtx", {"tensorrt_rtx_cu13": "1.7.1.116"}, "cuda-bindings", "pip install 'regiolect[tensorrt-rtx]'"),
        ("tensorrt", {"tensorrt": "11.4.0.106"}, "cuda-bindings", PLAIN),
        ("tensorrt", {"tensorrt": "10.9.0.34"}, "TensorRT 10.9.0.34, and 10.12", PLAIN),
    ],
)
def test_a_machine_with_the_gpu_is_told_which_software_it_lacks(
    monkeypatch: pytest.MonkeyPatch, name: str, installed: dict[str, str], found: str, remedy: str
) -> None:
    backend = catalog.backend(name)
    monkeypatch.setattr(importlib.import_module(type(backend).__module__), "gpu", lambda: GPU)
    Installed(monkeypatch, **installed)
    obstacle = backend.obstacle()
    assert obstacle is not None and found in obstacle.found
    assert (obstacle.kind, obstacle.remedy) == ("software", remedy)


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "tensorrt", "tensorrt-rtx"])
def test_without_nvidia_ml_py_nobody_says_that_there_is_no_gpu(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    backend = catalog.backend(name)
    module = importlib.import_module(type(backend).__module__)
    monkeypatch.setattr(module, "gpu", lambda: None)
    Installed(monkeypatch, onnxruntime_gpu="1.31.1", tensorrt="11.4.0.106", tensorrt_rtx_cu13="1.7.1.116")
    for seeing, kind in ((True, "device"), (False, "software")):
        monkeypatch.setattr(module, "seeing", lambda answer=seeing: answer)
        obstacle = backend.obstacle()
        assert obstacle is not None
        assert obstacle.kind == kind
        assert ("nvidia-ml-py is not installed" in obstacle.found) is (kind == "software")


def test_the_build_of_onnxruntime_for_gpus_runs_what_was_built_for_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    Installed(monkeypatch, onnxruntime_gpu="1.31.1")
    assert catalog.backend("onnxruntime").version() == "1.31.1"


@pytest.mark.parametrize(
    ("installed", "remedy"),
    [
        ({"onnxruntime_gpu": "1.31.1"}, "pip install 'regiolect[onnxruntime-cuda]' onnxruntime-gpu==1.30.0"),
        ({"onnxruntime": "1.31.1"}, "pip install 'regiolect[onnxruntime]' onnxruntime==1.30.0"),
        ({}, "pip install 'regiolect[onnxruntime]' onnxruntime==1.30.0"),
    ],
)
def test_nothing_is_installed_beside_the_distribution_that_carries_the_library(
    bundles, monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], remedy: str
) -> None:
    """ONNX Runtime's two overwrite each other's files."""
    artifact = bundles.artifact(backend="onnxruntime").model_copy(update={"backend_version": "1.30.0"})
    Installed(monkeypatch, **installed)
    backend = type("Bound", (OnnxRuntimeBackend,), {"binding": frozenset({"backend", "version"})})()
    monkeypatch.setattr(catalog, "backend", lambda name: backend)
    (fit,) = preflight((artifact,)).engines
    assert fit.remedy == remedy


def test_every_backend_has_an_extra_of_its_name_that_brings_its_distribution() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name in catalog.names():
        assert catalog.backend(name).distribution in {Requirement(each).name for each in extras[name]}

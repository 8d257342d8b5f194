"""What a backend takes for a difference between an engine and a machine, and what keeps an engine from running."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pytest

from regiolect.contracts import EngineArtifact, Misfit
from regiolect.engines import catalog
from regiolect.engines.onnxruntime.backend import OnnxRuntimeBackend
from regiolect.engines.openvino.backend import OpenVinoBackend

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
    [("cpu", "AMD Opteron 244"), ("isa", "avx2"), ("machine", "aarch64"), ("system", "Windows")],
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


class Fpga(OnnxRuntimeBackend):
    """A backend whose engines are bound to a device, which is not here unless `device` says so."""

    binding = frozenset({"backend", "bitstream"})
    device: str | None = "no FPGA on this machine"

    def fingerprint(self) -> Mapping[str, str]:
        return {**super().fingerprint(), "bitstream": "7"}

    def obstacle(self) -> str | None:
        return self.device


def test_a_missing_device_and_what_an_engine_is_bound_to_are_told_together(bundles) -> None:
    here = dict(Fpga().fingerprint())
    built = bundles.artifact(target="fpga").model_copy(
        update={"fingerprint": {**here, "bitstream": "6"}, "backend_version": here["version"]}
    )
    assert Fpga().misfits(built) == (
        Misfit(what="device", engine="fpga", host="no FPGA on this machine", blocks=True),
        Misfit(what="bitstream", engine="6", host="7", blocks=True),
    )
    here_now = Fpga()
    here_now.device = None
    assert [misfit.what for misfit in here_now.misfits(built)] == ["bitstream"]

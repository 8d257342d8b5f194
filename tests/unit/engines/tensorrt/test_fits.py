"""Which plan runs where, on hosts that are told and not asked."""

from __future__ import annotations

from typing import Any

import pytest

from regiolect.contracts import (
    BatchProfile,
    Blob,
    BuildRequest,
    EngineArtifact,
    NamedBlob,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.engines.catalog import backend
from regiolect.engines.tensorrt.fits import plain_misfits, rtx_misfits
from regiolect.engines.tensorrt.recipe import dotted, supported
from regiolect.host.gpu import gpu
from regiolect.integrity import digest_bytes

T4 = {"gpu": "Tesla T4", "compute capability": "7.5"}
A10 = {"gpu": "NVIDIA A10", "compute capability": "8.6"}
A40 = {"gpu": "NVIDIA A40", "compute capability": "8.6"}
H100 = {"gpu": "NVIDIA H100 80GB HBM3", "compute capability": "9.0"}
LINUX = {"system": "Linux", "machine": "x86_64", "driver": "580.1", "cuda": "13.0"}
PLAIN = {"backend": "tensorrt", "flavour": "tensorrt", "version": "11.4.0.106", **LINUX}
RTX = {"backend": "tensorrt-rtx", "flavour": "rtx", "version": "1.7.1.116", "system": "Linux", "machine": "x86_64"}
GPUS = {"gpus FP16": "SM75 SM80 SM86 SM89 SM120 SM121", "gpus FP32": "SM80 SM86 SM89 SM120 SM121"}


def artifact(
    name: str, fingerprint: dict[str, str], precision: Precision = Precision.FP16, **options: Any
) -> EngineArtifact:
    blob = Blob(uri="here", digest=digest_bytes(b"plan"), size=4)
    request = BuildRequest(
        model="net",
        region="jp",
        target=Target(name="gpu", backend=name, options=options),
        precision=precision,
        graph=blob,
        inputs=(TensorSpec(name="x", shape=("batch", 3)),),
        outputs=("y",),
        profile=BatchProfile(),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"key"),
    )
    version = fingerprint.get("version", "0")
    files = (NamedBlob(path="engine.plan", blob=blob),)
    return EngineArtifact(request=request, backend_version=version, files=files, fingerprint=fingerprint)


def blocking(found: Any) -> set[str]:
    return {each.what for each in found if each.blocks}


def plain(built: dict[str, str], host: dict[str, str], lean: bool = False, **options: Any) -> Any:
    return plain_misfits(artifact("tensorrt", {**PLAIN, **built}, **options), {**PLAIN, **host}, lean)


def test_a_plan_runs_where_it_was_built() -> None:
    assert plain(A10, A10) == ()


def test_a_plan_is_of_one_gpu_model_unless_the_policy_asked_for_more() -> None:
    assert blocking(plain(A10, A40)) == {"gpu"}
    assert blocking(plain(A10, T4)) == {"gpu", "compute capability"}
    within = plain(A10, A40, hardware_compatibility="same_compute_capability")
    assert [(each.what, each.engine, each.host, each.blocks) for each in within] == [
        ("gpu", "NVIDIA A10", "NVIDIA A40", False)
    ]
    assert blocking(plain(A10, H100, hardware_compatibility="same_compute_capability")) == {"compute capability"}


def test_ampere_and_later_run_each_others_compatible_plans_and_turing_does_not() -> None:
    assert blocking(plain(A10, H100, hardware_compatibility="ampere_plus")) == set()
    assert blocking(plain(A10, T4, hardware_compatibility="ampere_plus")) == {"compute capability"}


def test_a_plan_is_of_one_version_unless_it_brings_its_runtime() -> None:
    newer, older = {**A10, "version": "11.5.0.1"}, {**A10, "version": "10.16.0.1"}
    assert blocking(plain(A10, newer)) == blocking(plain(A10, older)) == {"version"}
    (lacking,) = plain(A10, newer, version_compatible=True)
    assert (lacking.what, lacking.host, lacking.blocks) == ("version", "11.5.0.1", True)
    assert lacking.engine == "11.4.0.106 or its lean runtime in REGIOLECT_TENSORRT_LEAN"
    (through,) = plain(A10, newer, lean=True, version_compatible=True)
    assert (through.what, through.engine, through.blocks) == ("version", "11.4.0.106", False)
    assert blocking(plain(A10, older, lean=True, version_compatible=True)) == {"version"}
    assert blocking(plain(A10, newer, lean=True)) == {"version"}
    assert plain(A10, A10, version_compatible=True) == ()


def test_another_system_blocks_and_another_driver_is_told() -> None:
    assert blocking(plain(A10, {**A10, "system": "Windows"})) == {"system"}
    (driver,) = plain(A10, {**A10, "driver": "575.2"})
    assert (driver.what, driver.engine, driver.host, driver.blocks) == ("driver", "580.1", "575.2", False)


def test_a_machine_without_a_gpu_lacks_what_the_plan_names() -> None:
    assert {"gpu", "compute capability"} <= blocking(plain(A10, {"gpu": "none"}))
    lacking = rtx_misfits(artifact("tensorrt-rtx", {**RTX, **GPUS}), RTX)[-1]
    assert (lacking.what, lacking.host, lacking.blocks) == ("compute capability", "unknown", True)
    assert "7.5, 8.0" in lacking.engine


def test_an_rtx_plan_runs_on_the_compute_capabilities_it_lists() -> None:
    every, one = artifact("tensorrt-rtx", {**RTX, **GPUS}), {"compute_capabilities": ("SM86",)}
    for device in (T4, A10):
        assert blocking(rtx_misfits(every, {**RTX, **device})) == set()
    (hopper,) = (each for each in rtx_misfits(every, {**RTX, **H100}) if each.blocks)
    assert (hopper.engine, hopper.host) == ("7.5, 8.0, 8.6, 8.9, 12.0, 12.1", "9.0")
    assert blocking(rtx_misfits(artifact("tensorrt-rtx", {**RTX, **GPUS}, **one), {**RTX, **T4})) == {
        "compute capability"
    }
    # Turing has no FP32 plans: what was listed for the plan's own precision counts.
    fp32 = artifact("tensorrt-rtx", {**RTX, **GPUS}, Precision.FP32)
    assert blocking(rtx_misfits(fp32, {**RTX, **T4})) == {"compute capability"}


def test_an_rtx_plan_was_measured_on_the_gpu_that_it_tells_of_and_on_no_other() -> None:
    there = artifact("tensorrt-rtx", {**RTX, **GPUS, **A10})
    assert rtx_misfits(there, {**RTX, **A10}) == ()
    (elsewhere,) = rtx_misfits(there, {**RTX, **T4})
    assert (elsewhere.what, elsewhere.engine, elsewhere.host, elsewhere.blocks) == (
        "gpu",
        "NVIDIA A10",
        "Tesla T4",
        False,
    )
    (nowhere,) = rtx_misfits(artifact("tensorrt-rtx", {**RTX, **GPUS}), {**RTX, **T4})
    assert (nowhere.what, nowhere.engine, nowhere.host, nowhere.blocks) == ("gpu", "unknown", "Tesla T4", False)


def test_what_one_side_does_not_tell_is_a_difference() -> None:
    """As with any other backend: what was not recorded is not known to be alike."""
    untold = {key: value for key, value in {**PLAIN, **A10}.items() if key not in ("system", "driver")}
    found = plain_misfits(artifact("tensorrt", untold), {**PLAIN, **A10})
    assert [(each.what, each.engine, each.blocks) for each in found] == [
        ("system", "unknown", True),
        ("driver", "unknown", False),
    ]
    nothing_told = dict.fromkeys({**PLAIN, **A10}, "unknown")
    assert {"system", "gpu"} <= blocking(plain_misfits(artifact("tensorrt", nothing_told), nothing_told))


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_an_option_that_this_version_does_not_know_keeps_a_plan_from_running(name: str) -> None:
    misfits = {"tensorrt": plain_misfits, "tensorrt-rtx": rtx_misfits}[name]
    newer = artifact(name, {**(PLAIN if name == "tensorrt" else RTX), **GPUS, **A10}, sparsity="2:4")
    (misfit,) = misfits(newer, {**PLAIN, **A10})
    assert (misfit.what, misfit.engine, misfit.blocks) == ("options.sparsity", "2:4", True)
    assert "workspace_mib" in misfit.host


def test_an_rtx_plan_is_of_one_version_and_system() -> None:
    host = {**RTX, **A10, "version": "1.8.0.1", "system": "Windows"}
    assert blocking(rtx_misfits(artifact("tensorrt-rtx", {**RTX, **GPUS}), host)) == {"version", "system"}


def test_no_flavour_takes_the_others_plans_whatever_they_are_called() -> None:
    for name, other, told in (("tensorrt", "rtx", RTX), ("tensorrt-rtx", "tensorrt", {**PLAIN, **A10})):
        (misfit,) = backend(name).misfits(artifact(name, told))
        assert (misfit.what, misfit.engine, misfit.blocks) == ("flavour", other, True)


def test_a_plan_from_before_there_were_two_flavours_is_one_of_tensorrt_rtx() -> None:
    old = artifact("tensorrt", {"backend": "tensorrt", "flavour": "rtx", "version": "1.7.1.116", **GPUS})
    (misfit,) = backend("tensorrt").misfits(old)
    assert (misfit.engine, misfit.host) == ("rtx", "tensorrt")


@pytest.mark.skipif(gpu() is not None, reason="there is a GPU here")
def test_this_machine_says_what_it_lacks() -> None:
    (misfit,) = backend("tensorrt-rtx").misfits(artifact("tensorrt-rtx", {**RTX, **GPUS}))
    assert (misfit.what, misfit.blocks) == ("device", True)
    assert misfit.host.startswith("no NVIDIA GPU") and "compute capabilities 7.5" in misfit.host


def test_versions_of_plain_tensorrt_that_are_supported() -> None:
    assert [
        version for version in ("10.9.0.34", "10.12.0.36", "10.16.1.11", "11.4.0.106", "12.0") if supported(version)
    ] == [
        "10.12.0.36",
        "10.16.1.11",
        "11.4.0.106",
    ]
    assert (dotted("SM75"), dotted("SM121")) == ("7.5", "12.1")

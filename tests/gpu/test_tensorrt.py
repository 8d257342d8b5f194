"""Plans of both flavours of TensorRT, built and run on an NVIDIA GPU. Run with: pytest tests/gpu/test_tensorrt.py

A flavour whose library is missing, or that does not run on this GPU, is skipped with the reason.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from regiolect.attest import attest
from regiolect.contracts import BatchProfile, BuildRequest, EngineArtifact, Execution, NamedBlob, Precision
from regiolect.engines.catalog import backend
from regiolect.engines.origin import metadata_of
from regiolect.engines.tensorrt.caches import MachineCache
from regiolect.errors import BackendUnavailable, EngineLoadFailed, ShapeOutsideProfile
from regiolect.host.gpu import gpu
from regiolect.precision import coarser_than
from regiolect.storage import LocalStore

pytestmark = pytest.mark.skipif(gpu() is None, reason="no NVIDIA GPU on this machine, or no driver for it")

FLAVOURS = ("tensorrt", "tensorrt-rtx")
TOLERANCE = {Precision.FP32: 1e-4, Precision.FP16: 1e-2, Precision.INT8: 0.1}
Build = Callable[..., EngineArtifact]


def why_not(name: str) -> str | None:
    """Why a flavour does not run here."""
    try:
        backend(name).require()
    except BackendUnavailable as error:
        return f"{name}: {error.found}"
    obstacle = backend(name).obstacle()
    return None if obstacle is None else obstacle.found


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "caches"))
    return tmp_path / "caches" / "regiolect" / "tensorrt"


@pytest.fixture(params=FLAVOURS)
def name(request: pytest.FixtureRequest) -> str:
    if (found := why_not(request.param)) is not None:
        pytest.skip(found)
    return str(request.param)


@pytest.fixture
def plain() -> str:
    if (found := why_not("tensorrt")) is not None:
        pytest.skip(found)
    return "tensorrt"


@pytest.fixture
def build(request_for: Callable[..., BuildRequest], store: LocalStore) -> Build:
    def make(name: str, precision: Precision = Precision.FP16, options: Any = None, **changes: Any) -> EngineArtifact:
        request = request_for(name, precision, **changes)
        target = request.target.model_copy(update={"options": options or {}})
        return backend(name).build(request.model_copy(update={"target": target}), store)

    return make


# ------------------------------------------------------------------------------------------------ running


@pytest.mark.parametrize("precision", Precision)
def test_answers_are_near_the_reference(
    name: str, precision: Precision, build: Build, store: LocalStore, samples: Any, reference: Any
) -> None:
    engine = backend(name).load(build(name, precision), store)
    np.testing.assert_allclose(engine.run({"x": samples})["y"], reference, atol=TOLERANCE[precision], rtol=0)
    many = engine.run_many({"x": np.concatenate([samples] * 3)}, batch=5)["y"]
    np.testing.assert_allclose(many, np.concatenate([reference] * 3), atol=TOLERANCE[precision], rtol=0)


def test_every_configuration_gives_the_same_answers(name: str, build: Build, store: LocalStore, samples: Any) -> None:
    artifact = build(name)
    expected = backend(name).load(artifact, store).run({"x": samples})["y"]
    for configuration in backend(name).configurations(artifact.request):
        engine = backend(name).load(artifact, store, configuration)
        # What is recorded of one size must not answer another, nor be launched once there was another in between.
        for rows in (8, 8, 8, 3, 3, 8, 3, 8, 8, 1, 1):
            np.testing.assert_allclose(engine.run({"x": samples[:rows]})["y"], expected[:rows], atol=1e-3)


def test_several_threads_may_use_one_engine(name: str, build: Build, store: LocalStore, samples: Any) -> None:
    engine = backend(name).load(build(name), store)
    expected = [engine.run({"x": samples[row : row + 1]})["y"] for row in range(8)]
    wrong: list[int] = []

    def work(row: int) -> None:
        for _ in range(50):
            if not np.allclose(engine.run({"x": samples[row : row + 1]})["y"], expected[row], atol=1e-3):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(row,)) for row in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_a_shape_outside_the_profile_is_refused(name: str, build: Build, store: LocalStore, samples: Any) -> None:
    engine = backend(name).load(build(name, profile=BatchProfile(min=2, opt=4, max=8)), store)
    with pytest.raises(ShapeOutsideProfile, match="2 to 8"):
        engine.run({"x": samples[:1]})


@pytest.mark.parametrize("precision", Precision)
def test_no_layer_is_coarser_than_the_precision(
    name: str, precision: Precision, build: Build, store: LocalStore
) -> None:
    attestation = attest(backend(name), build(name, precision), store)
    assert attestation.executed, attestation.source
    assert not [each for each in attestation.executed if coarser_than(each, precision)]
    assert Execution.TF32 not in attestation.executed


# -------------------------------------------------------------------------------- what fits, and what not


def test_a_plan_fits_the_machine_it_was_built_on(name: str, build: Build) -> None:
    assert backend(name).misfits(build(name)) == ()


def test_a_truncated_plan_with_a_digest_of_its_own_is_refused(name: str, build: Build, store: LocalStore) -> None:
    artifact = build(name)
    plan = store.path_of(artifact.files[0].blob).read_bytes()
    files = (NamedBlob(path="engine.plan", blob=store.put_bytes(plan[: len(plan) // 2])),)
    with pytest.raises(EngineLoadFailed, match="deserializes"):
        backend(name).load(artifact.model_copy(update={"files": files}), store)


def test_the_other_flavours_plan_under_this_ones_name_is_refused(name: str, build: Build, store: LocalStore) -> None:
    (other,) = set(FLAVOURS) - {name}
    try:
        # TensorRT-RTX builds on any machine; plain TensorRT where it runs.
        foreign = build(other)
    except BackendUnavailable as error:
        pytest.skip(error.found)
    with pytest.raises(EngineLoadFailed):
        backend(name).load(build(name).model_copy(update={"files": foreign.files}), store)


def test_a_gpu_that_tensorrt_rtx_does_not_run_on_is_named() -> None:
    found = backend("tensorrt-rtx").obstacle()
    device = gpu()
    assert device is not None
    if found is None:
        pytest.skip(f"{device.name} is one of those it runs on")
    if device.compute_capability in ("9.0", "10.0", "10.3"):
        assert f"compute capability {device.compute_capability}" in found.found


# ------------------------------------------------------------------------------------------------ caches


def test_what_is_compiled_at_run_time_is_kept_for_the_next_process(
    build: Build, store: LocalStore, samples: Any, caches: Path
) -> None:
    if (found := why_not("tensorrt-rtx")) is not None:
        pytest.skip(found)
    artifact = build("tensorrt-rtx")
    first = backend("tensorrt-rtx").load(artifact, store).run({"x": samples})["y"]
    (kept,) = caches.glob("runtime-*.cache")
    assert kept.stat().st_size > 500
    again = backend("tensorrt-rtx").load(artifact, store).run({"x": samples})["y"]
    np.testing.assert_allclose(first, again, atol=1e-3)


def test_timings_that_another_build_kept_meanwhile_are_merged(
    plain: str, build: Build, caches: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build(plain, Precision.FP16)
    (kept,) = caches.glob("timing-*.cache")
    of_another = kept.read_bytes()
    kept.unlink()
    build(plain, Precision.INT8)
    alone = kept.stat().st_size
    kept.unlink()
    load, loaded = MachineCache.load, list[bytes | None]()

    def meanwhile(self: MachineCache) -> bytes | None:
        # Before the second look, which is taken when the plan is there, the other build is done.
        if self.kind == "timing" and loaded:
            kept.write_bytes(of_another)
        loaded.append(load(self))
        return loaded[-1]

    monkeypatch.setattr(MachineCache, "load", meanwhile)
    build(plain, Precision.INT8)
    assert loaded[0] is None and loaded[1] is not None
    assert kept.stat().st_size > max(alone, len(of_another))


def test_timings_are_kept_and_never_taken_from_a_corrupt_file(
    plain: str, build: Build, caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build(plain, Precision.FP16)
    (kept,) = caches.glob("timing-*.cache")
    first = kept.stat().st_size
    build(plain, Precision.INT8)
    assert kept.stat().st_size > first
    kept.write_bytes(kept.read_bytes()[:-5])
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        build(plain, Precision.FP16)
    assert "corrupt" in caplog.text
    assert list(caches.glob("*.corrupt-*")) and kept.exists()


def test_timings_that_tensorrt_does_not_take_are_set_aside(
    plain: str, build: Build, caches: Path, caplog: pytest.LogCaptureFixture
) -> None:
    from regiolect.engines.tensorrt.plain import machine_key

    MachineCache("timing", machine_key()).keep(b"timings of nothing")
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        build(plain)
    assert "foreign" in caplog.text
    assert list(caches.glob("*.foreign-*"))


# -------------------------------------------------------------------------------- options of plain TensorRT


@pytest.mark.parametrize(
    "options",
    [
        {"builder_optimization_level": 0},
        {"builder_optimization_level": 5},
        {"hardware_compatibility": "ampere_plus"},
        {"hardware_compatibility": "same_compute_capability"},
        {"version_compatible": True},
        {"refittable": True},
    ],
    ids=str,
)
def test_a_plan_of_every_option_runs(
    options: dict[str, Any], plain: str, build: Build, store: LocalStore, samples: Any, reference: Any
) -> None:
    engine = backend(plain).load(build(plain, Precision.FP16, options), store)
    np.testing.assert_allclose(engine.run({"x": samples})["y"], reference, atol=TOLERANCE[Precision.FP16], rtol=0)


def test_other_weights_are_put_into_the_plan_that_is_there(
    plain: str, build: Build, store: LocalStore, samples: Any, caplog: pytest.LogCaptureFixture
) -> None:
    import onnx
    from onnx import numpy_helper

    first = build(plain, Precision.FP32, {"refittable": True})
    model = onnx.load(store.path_of(first.request.graph))
    for tensor in model.graph.initializer:
        if tensor.name == "b3":
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 1, "b3"))
    with caplog.at_level(logging.INFO, "regiolect.progress"):
        second = build(plain, Precision.FP32, {"refittable": True}, graph=store.put_bytes(model.SerializeToString()))
    assert "is refitted" in caplog.text
    was, now = (backend(plain).load(each, store).run({"x": samples})["y"] for each in (first, second))
    np.testing.assert_allclose(now, was + 1, atol=1e-4)
    told = dict(backend(plain).load(second, store).metadata())
    assert told == {key: value for key, value in metadata_of(second.request).items() if key != "build_key"}


# ------------------------------------------------------------------------------------------------ memory


def test_the_first_gpu_is_the_one_that_the_driver_tells_of() -> None:
    here = gpu()
    cuda = pytest.importorskip("regiolect.engines.tensorrt.cuda")
    cuda.use_first_device()
    properties = cuda.checked(cuda.cudart.cudaGetDeviceProperties(0))
    assert here is not None
    assert here.name == properties.name.decode()
    assert here.compute_capability == f"{properties.major}.{properties.minor}"


def test_device_memory_gives_back_what_it_took() -> None:
    cuda = pytest.importorskip("regiolect.engines.tensorrt.cuda")
    cuda.use_first_device()
    stream, array = cuda.Stream(), np.arange(1000, dtype=np.float32)
    buffer = cuda.Buffer(array.nbytes)
    buffer.take(array, stream)
    found = buffer.give((10, 100), np.dtype(np.float32), stream)
    stream.wait()
    np.testing.assert_array_equal(found.reshape(-1), array)
    with pytest.raises(cuda.CudaFailed, match="do not fit"):
        buffer.take(np.zeros(1001, np.float32), stream)


def test_memory_that_is_not_there_is_refused() -> None:
    cuda = pytest.importorskip("regiolect.engines.tensorrt.cuda")
    cuda.use_first_device()
    with pytest.raises(cuda.CudaFailed, match="cudaErrorMemoryAllocation"):
        cuda.Buffer(1 << 50)

"""ONNX Runtime's CUDA provider on the GPU of this machine: answers, precision, CUDA graphs, and who may load what."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from regiolect.attest import attest
from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    Configuration,
    EngineArtifact,
    Execution,
    Precision,
    Preprocessing,
)
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.catalog import backend
from regiolect.engines.onnxruntime.configurations import CUDA_GRAPH
from regiolect.errors import EngineLoadFailed, InvalidConfiguration
from regiolect.host.gpu import gpu
from regiolect.serving.adaptive import AdaptiveModel
from regiolect.serving.opening import Way, served_points
from regiolect.storage import LocalStore

BACKEND = backend("onnxruntime-cuda")
pytestmark = pytest.mark.skipif(BACKEND.obstacle() is not None, reason=str(BACKEND.obstacle()))
# Largest deviation from FP32 on the processor, of outputs that reach about 1.
TOLERANCE = {Precision.FP32: 1e-4, Precision.FP16: 5e-3, Precision.INT8: 0.1}
GRAPH = {CUDA_GRAPH: "1"}
Build = Callable[..., EngineArtifact]


@pytest.fixture
def build(request_for: Callable[..., BuildRequest], store: LocalStore) -> Build:
    def make(precision: Precision = Precision.FP16, tf32: bool = False, **changes: object) -> EngineArtifact:
        request = request_for(BACKEND.name, precision, **changes).model_copy(update={"tf32": tf32})
        return BACKEND.build(request, store)

    return make


@pytest.mark.parametrize("precision", Precision)
def test_every_configuration_answers_as_the_processor_does(
    precision: Precision, build: Build, store: LocalStore, samples: np.ndarray, reference: np.ndarray
) -> None:
    """Or it is refused: a graph is not captured if one of its kernels runs on the processor."""
    artifact, refused = build(precision), []
    for configuration in BACKEND.configurations(artifact.request):
        try:
            engine = BACKEND.load(artifact, store, configuration)
        except EngineLoadFailed:
            refused.append(configuration)
        else:
            found = engine.run({"x": samples})["y"]
            assert np.abs(found - reference).max() < TOLERANCE[precision], configuration
    assert precision is Precision.INT8 or not refused
    assert all(CUDA_GRAPH in configuration for configuration in refused)


@pytest.mark.parametrize("configuration", [AS_IT_COMES, GRAPH], ids=["as it comes", "CUDA graph"])
def test_batches_of_many_sizes_in_any_order_keep_their_own_answers(
    configuration: Configuration, build: Build, store: LocalStore
) -> None:
    """More sizes than there are buffers kept, each met again: a replayed graph must not answer an earlier batch."""
    engine = BACKEND.load(build(Precision.FP32, profile=BatchProfile(min=1, opt=4, max=24)), store, configuration)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(24, 3, 16, 16)).astype(np.float32)
    expected = np.concatenate([engine.run({"x": images[i : i + 1]})["y"] for i in range(24)])
    for size in [*range(1, 25), *rng.integers(1, 25, 60)]:
        rows = rng.permutation(24)[:size]
        np.testing.assert_allclose(engine.run({"x": images[rows]})["y"], expected[rows], atol=1e-4)


@pytest.mark.parametrize("configuration", [AS_IT_COMES, GRAPH], ids=["as it comes", "CUDA graph"])
def test_several_threads_get_the_answers_to_their_own_batches(
    configuration: Configuration, build: Build, store: LocalStore, samples: np.ndarray
) -> None:
    engine = BACKEND.load(build(Precision.FP32), store, configuration)
    expected = engine.run({"x": samples})["y"]

    def answer(number: int) -> bool:
        rows = np.random.default_rng(number).permutation(8)[: 1 + number % 8]
        return bool(np.allclose(engine.run({"x": samples[rows]})["y"], expected[rows], atol=1e-4))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(answer, range(200)))


def test_callers_of_a_served_engine_get_their_own_answers_at_every_point(
    build: Build, store: LocalStore, samples: np.ndarray
) -> None:
    artifact = build(Precision.FP32)
    ways = (Way(AS_IT_COMES, (1, 4)), Way(GRAPH, (2, 8)))
    engines = [BACKEND.load(artifact, store, way.configuration) for way in ways]
    expected = engines[0].run({"x": samples})["y"]
    points = served_points(engines, ways, Preprocessing())
    assert {(point.engine, point.batch) for point in points} == {(0, 1), (0, 4), (1, 2), (1, 8)}
    for some in ([point] for point in points):
        with AdaptiveModel(engines, Preprocessing(), some, patience=60.0) as model:
            asked = [(rows, model.submit(samples[rows])) for rows in some_rows(200, some[0].batch)]
            assert all(np.allclose(future.result()["y"], expected[rows], atol=1e-4) for rows, future in asked)
            assert model.statistics().answered == 200


def some_rows(count: int, most: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.permutation(8)[: 1 + rng.integers(most)] for _ in range(count)]


@pytest.mark.parametrize(
    ("precision", "tf32", "executed"),
    [
        (Precision.FP32, False, {Execution.FP32}),
        (Precision.FP32, True, {Execution.TF32}),
        (Precision.FP16, False, {Execution.FP16}),
    ],
)
@pytest.mark.parametrize("configuration", [AS_IT_COMES, GRAPH], ids=["as it comes", "CUDA graph"])
def test_the_engine_tells_what_it_computes_in(
    precision: Precision,
    tf32: bool,
    executed: set[Execution],
    configuration: Configuration,
    build: Build,
    store: LocalStore,
) -> None:
    artifact = build(precision, tf32)
    engine = BACKEND.load(artifact, store, configuration)
    assert set(engine.executed()) == executed
    assert engine.settings()["CUDAExecutionProvider.use_tf32"] == str(int(tf32))
    attestation = attest(BACKEND, artifact, store)
    assert set(attestation.executed or {}) == executed
    assert attestation.strength == "graph"


def test_tf32_is_what_makes_fp32_differ_from_the_processor(
    build: Build, store: LocalStore, samples: np.ndarray, reference: np.ndarray
) -> None:
    """That the setting does what the attestation says: answers with TF32 are coarser, and those without are not."""
    exact, coarse = (
        np.abs(BACKEND.load(build(Precision.FP32, tf32), store).run({"x": samples})["y"] - reference).max()
        for tf32 in (False, True)
    )
    assert exact < 2e-6 < coarse


def test_no_kernel_of_a_convolution_runs_in_integers(build: Build, store: LocalStore) -> None:
    """The provider has no integer convolution: a quantized graph computes in the scales' type, and says so."""
    engine = BACKEND.load(build(Precision.INT8), store)
    convolutions = {layer.precision for layer in engine.layers() if "Conv" in layer.kind}
    assert convolutions == {Execution.FP16}


def test_precision_is_no_setting_to_tune(build: Build, store: LocalStore) -> None:
    with pytest.raises(InvalidConfiguration, match="use_tf32"):
        BACKEND.load(build(Precision.FP32), store, {"use_tf32": "1"})


def test_an_engine_says_on_which_gpu_it_was_built(build: Build) -> None:
    here = gpu()
    assert here is not None
    assert BACKEND.obstacle() is None
    artifact = build()
    assert artifact.fingerprint["gpu"] == here.name
    assert BACKEND.misfits(artifact) == ()
    elsewhere = artifact.model_copy(update={"fingerprint": {**artifact.fingerprint, "gpu": "NVIDIA T4"}})
    (misfit,) = BACKEND.misfits(elsewhere)
    assert (misfit.what, misfit.engine, misfit.host, misfit.blocks) == ("gpu", "NVIDIA T4", here.name, False)

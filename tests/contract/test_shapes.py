"""Sizes that vary besides the batch: bounded by the policy's profile, padded to its buckets, on real engines."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import (
    BatchProfile,
    BuildRequest,
    DimensionProfile,
    EngineArtifact,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.engines.catalog import backend
from regiolect.engines.engine import Engine
from regiolect.errors import BuildFailed, ShapeOutsideProfile
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore
from tests.contract.backends import ASKED_ALL

REACH = 5  # the network's kernel, in pixels of width
PLAIN = DimensionProfile(min=8, opt=16, max=32)
BUCKETS = DimensionProfile(min=8, opt=16, max=32, buckets=(8, 16, 32))


def network() -> bytes:
    """`map`: a convolution of x, as wide as x less its kernel; `total`: what is in it, which zeros do not change."""
    rng = np.random.default_rng(1)
    weights = {
        "w": rng.normal(size=(4, 2, 3, REACH)).astype(np.float32),
        "axes": np.array([1, 2, 3], np.int64),
        "padding": np.array([0, 0, 0, 0, 0, 0, 0, REACH - 1], np.int64),
    }
    graph = helper.make_graph(
        [
            helper.make_node("Conv", ["x", "w"], ["map"], name="conv"),
            # What a convolution sees of the last pixels must be whole, for the sum to be the same with padding.
            helper.make_node("Pad", ["x", "padding"], ["wider"], name="pad"),
            helper.make_node("Conv", ["wider", "w"], ["full"], name="conv-full"),
            helper.make_node("Relu", ["full"], ["positive"], name="relu"),
            helper.make_node("ReduceSum", ["positive", "axes"], ["total"], name="sum", keepdims=0),
        ],
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2, 3, "width"])],
        [
            helper.make_tensor_value_info("map", TensorProto.FLOAT, ["batch", 4, 1, None]),
            helper.make_tensor_value_info("total", TensorProto.FLOAT, ["batch"]),
        ],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    data: bytes = model.SerializeToString()
    return data


@pytest.fixture
def store(tmp_path) -> LocalStore:
    return LocalStore(tmp_path / "store")


@pytest.fixture
def build(store: LocalStore) -> Callable[..., EngineArtifact]:
    def make(name: str, shapes: dict[str, DimensionProfile], profile: BatchProfile | None = None) -> EngineArtifact:
        request = BuildRequest(
            model="wide",
            region="me",
            target=Target(name="here", backend=name),
            precision=Precision.FP32,
            graph=store.put_bytes(network()),
            inputs=(TensorSpec(name="x", shape=("batch", 2, 3, "width")),),
            outputs=("map", "total"),
            profile=profile or BatchProfile(min=1, opt=2, max=4),
            shapes=shapes,
            performance=Performance.LATENCY,
            policy=digest_bytes(b"policy"),
            build_key=digest_bytes(b"key"),
        )
        return backend(name).build(request, store)

    return make


@pytest.fixture
def load(build: Callable[..., EngineArtifact], store: LocalStore) -> Callable[..., Engine]:
    return lambda name, *parts: backend(name).load(build(name, *parts), store)


def samples(width: int, rows: int = 2) -> np.ndarray:
    return np.random.default_rng(width).normal(1, 1, size=(rows, 2, 3, width)).astype(np.float32)


def reference(x: np.ndarray) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(network(), providers=["CPUExecutionProvider"])
    return dict(zip(("map", "total"), session.run(["map", "total"], {"x": x}), strict=True))


@pytest.mark.parametrize("name", ASKED_ALL)
def test_every_size_of_a_plain_profile_is_taken_as_it_is_and_no_other(name: str, load: Callable[..., Engine]) -> None:
    engine = load(name, {"width": PLAIN})
    for width in (8, 9, 31, 32):
        answer = engine.run({"x": samples(width)})
        for output, expected in reference(samples(width)).items():
            np.testing.assert_allclose(answer[output], expected, atol=1e-4)
    for width in (7, 33):
        for run in (engine.run, engine.run_many):
            with pytest.raises(
                ShapeOutsideProfile, match=f"'width' of input 'x' from 8 to 32.*found {width}.*shapes.w"
            ):
                run({"x": samples(width)})


@pytest.mark.parametrize("name", ASKED_ALL)
def test_a_narrower_sample_is_filled_up_to_the_next_bucket_with_zeros(name: str, load: Callable[..., Engine]) -> None:
    engine = load(name, {"width": BUCKETS})
    for width, bucket in ((1, 8), (7, 8), (8, 8), (9, 16), (16, 16), (17, 32), (32, 32)):
        x = samples(width)
        answer = engine.run({"x": x})
        filled = np.zeros((2, 2, 3, bucket), np.float32)
        filled[..., :width] = x
        assert answer["map"].shape == (2, 4, 1, bucket - REACH + 1)
        np.testing.assert_allclose(answer["map"], reference(filled)["map"], atol=1e-4)
        if width >= REACH:
            np.testing.assert_allclose(answer["total"], reference(x)["total"], rtol=1e-4)
        # Behind the last pixel lies nothing: neither an older sample's pixels nor what was in memory.
        assert not answer["map"][..., width:].any()


@pytest.mark.parametrize("name", ASKED_ALL)
def test_one_pixel_wider_than_the_largest_bucket_is_refused(name: str, load: Callable[..., Engine]) -> None:
    engine = load(name, {"width": BUCKETS})
    assert engine.run({"x": samples(32)})["map"].shape[-1] == 32 - REACH + 1
    with pytest.raises(ShapeOutsideProfile, match=r"from 1 to 32.*found 33"):
        engine.run({"x": samples(33)})


@pytest.mark.parametrize("name", ASKED_ALL)
def test_a_batch_and_a_width_are_padded_at_once(name: str, load: Callable[..., Engine]) -> None:
    engine = load(name, {"width": BUCKETS}, BatchProfile(min=1, opt=4, max=4, buckets=(2, 4)))
    for rows in (1, 3, 4, 11):
        x = samples(13, rows)
        answer = engine.run_many({"x": x}, batch=4)
        assert answer["map"].shape == (rows, 4, 1, 16 - REACH + 1)
        np.testing.assert_allclose(answer["total"], reference(x)["total"], rtol=1e-4)


def test_openvino_itself_knows_the_bounds(build: Callable[..., EngineArtifact], store: LocalStore) -> None:
    artifact = build("openvino", {"width": PLAIN})
    paths = {file.path: store.path_of(file.blob) for file in artifact.files}
    weights = openvino.Tensor(np.fromfile(paths["engine.bin"], np.uint8))
    model = openvino.Core().read_model(paths["engine.xml"].read_bytes(), weights)
    width = model.inputs[0].get_partial_shape()[3]
    assert (width.get_min_length(), width.get_max_length()) == (8, 32)


def test_a_tensorrt_rtx_plan_holds_the_profile(build: Callable[..., EngineArtifact], store: LocalStore) -> None:
    artifact = build("tensorrt-rtx", {"width": DimensionProfile(min=1013, opt=2027, max=3041)})
    plan = store.path_of(artifact.files[0].blob).read_bytes()
    # Reading a plan takes a GPU; its profile lies in it as plain numbers: smallest, best and largest shape.
    places = [plan.find(struct.pack("<4q", *shape)) for shape in ((1, 2, 3, 1013), (2, 2, 3, 2027), (4, 2, 3, 3041))]
    assert -1 not in places
    assert places == sorted(places)


@pytest.mark.parametrize("name", dict.fromkeys([*ASKED_ALL, "tensorrt-rtx"]))
def test_a_varying_size_without_a_profile_is_refused_with_the_policys_field(
    name: str, build: Callable[..., EngineArtifact]
) -> None:
    with pytest.raises(BuildFailed, match=r"'width' of input 'x'.*found profiles for height.*`shapes\.width`.*'me'"):
        build(name, {"height": PLAIN})

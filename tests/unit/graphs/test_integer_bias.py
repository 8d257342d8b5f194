"""Integer biases: a Gemm that ONNX Runtime runs in integers, with the float bias's answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Precision, TensorRange
from regiolect.engines.onnxruntime.recipe import RECIPES
from regiolect.engines.onnxruntime.session import open_session
from regiolect.graphs.quantize import quantized
from regiolect.precision import Recipe

RNG = np.random.default_rng(3)
WEIGHT = RNG.normal(size=(5, 8)).astype(np.float32)
BIAS = RNG.normal(size=5).astype(np.float32)
INPUT = RNG.uniform(-1, 1, (16, 8)).astype(np.float32)
RANGES = {"x": TensorRange(threshold=1.0, minimum=-1.0, maximum=1.0)}


def model(bias: np.ndarray = BIAS, **attributes: float) -> onnx.ModelProto:
    node = helper.make_node("Gemm", ["x", "w", "b"], ["y"], name="gemm", transB=1, **attributes)
    graph = helper.make_graph(
        [node],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 5])],
        [numpy_helper.from_array(WEIGHT, "w"), numpy_helper.from_array(bias, "b")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def recipe(integer_bias: bool) -> Recipe:
    return Recipe(activation="uint8", remainder=Precision.FP32, operators=("Gemm",), integer_bias=integer_bias)


def kernels(of: onnx.ModelProto, folder: object) -> set[str]:
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = f"{folder}/optimized.onnx"
    options.log_severity_level = 3
    onnxruntime.InferenceSession(of.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {node.op_type for node in onnx.load(f"{folder}/optimized.onnx").graph.node}


def run(of: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(of.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": INPUT})[0])


def test_with_an_integer_bias_the_gemm_runs_in_integers(tmp_path):
    assert "QGemm" in kernels(quantized(model(), recipe(True), RANGES), tmp_path)
    assert "QGemm" not in kernels(quantized(model(), recipe(False), RANGES), tmp_path)


def test_the_answer_is_that_of_the_float_bias():
    exact, wide = run(model()), run(quantized(model(), recipe(False), RANGES))
    narrow = run(quantized(model(), recipe(True), RANGES))
    np.testing.assert_allclose(narrow, wide, atol=1e-3)
    assert np.abs(narrow - exact).max() < 0.05


@pytest.mark.parametrize(
    ("of", "largest"),
    [
        (model(alpha=0.5), 1.0),
        (model(beta=2.0), 1.0),
        (model(np.float32([1.0])), 1.0),
        (model(np.full(5, 3e38, np.float32)), 1e-12),
    ],
    ids=["alpha", "beta", "one value for all", "beyond any scale"],
)
def test_a_bias_that_does_not_fit_stays_float(of, largest):
    result = quantized(of, recipe(True), {"x": TensorRange(threshold=largest, minimum=-largest, maximum=largest)})
    onnx.checker.check_model(result, full_check=True)
    assert result.graph.node[-1].input[2] == "b"
    np.testing.assert_allclose(run(result), run(of), rtol=0.05, atol=0.1)


# ------------------------------------------------------- channels whose weights say nothing of their biases

CHANNELS, IN = 6, 8
# How large a channel's weights are; none at all is a dead channel, as pruning and ReLU leave them.
MAGNITUDES = st.sampled_from([0.0, 0.0, 1e-12, 1e-6, 1.0, 1.0, 1e4])
BIASES = st.sampled_from([0.0, 1e-3, 0.3, -2.0, 100.0, -1e6])


def layer(kind: str, magnitudes: list[float], biases: list[float], seed: int) -> onnx.ModelProto:
    """One layer, its output quantized for the next one, as its kernel is an integer one only then."""
    rng = np.random.default_rng(seed)
    convolution = kind == "Conv"
    weights = rng.normal(size=(CHANNELS, IN)) * np.array(magnitudes)[:, None]
    one = np.eye(CHANNELS)
    nodes = {
        "Gemm": [helper.make_node("Gemm", ["x", "w", "b"], ["h"])],
        "Conv": [helper.make_node("Conv", ["x", "w", "b"], ["h"])],
        "MatMul": [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Add", ["m", "b"], ["h"])],
    }[kind]
    nodes.append(helper.make_node("Conv" if convolution else "MatMul", ["h", "one"], ["y"]))
    more = (1, 1) if convolution else ()
    constants = {
        "w": weights.reshape(CHANNELS, IN, *more) if convolution else weights.T,
        "b": np.array(biases),
        "one": one.reshape(CHANNELS, CHANNELS, *more),
    }
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", IN, *more])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", CHANNELS, *more]) for name in ("y", "h")],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def in_floats(quantized_graph: onnx.ModelProto, bias: onnx.TensorProto) -> onnx.ModelProto:
    """The same graph with its bias as it was, for a session that computes every node by itself, in float32."""
    plain = onnx.ModelProto()
    plain.CopyFrom(quantized_graph)
    for node in plain.graph.node:
        if node.op_type == "Gemm":
            node.input[2] = "b"
    if not any(tensor.name == "b" for tensor in plain.graph.initializer):
        plain.graph.initializer.append(bias)
    return plain


@pytest.mark.parametrize("kind", ["Gemm", "Conv", "MatMul"])
@settings(deadline=None, max_examples=60)
@given(
    magnitudes=st.lists(MAGNITUDES, min_size=CHANNELS, max_size=CHANNELS),
    biases=st.lists(BIASES, min_size=CHANNELS, max_size=CHANNELS),
    largest=st.sampled_from([1e-3, 1.0, 50.0, 255.0, 1e5]),
    seed=st.integers(0, 1000),
)
def test_a_bias_moves_no_output_by_more_than_a_step_of_its_layers_range(kind, magnitudes, biases, largest, seed):
    of = layer(kind, magnitudes, biases, seed)
    # Up to half of the range that is quantized, so that no sum of two products leaves int16, where some kernels add.
    shape = (32, IN, 1, 1) if kind == "Conv" else (32, IN)
    inputs = {"x": np.random.default_rng(seed).uniform(0, largest * 127 / 255, shape).astype(np.float32)}
    exact = onnxruntime.InferenceSession(of.SerializeToString()).run(["h"], inputs)[0]
    lowest, highest = min(float(exact.min()), 0.0), max(float(exact.max()), 0.0)
    ranges = {
        "x": TensorRange(threshold=largest, minimum=0.0, maximum=largest),
        "h": TensorRange(threshold=max(-lowest, highest), minimum=lowest, maximum=highest),
    }
    del of.graph.output[1:]
    found = quantized(of, RECIPES[Precision.INT8], ranges)
    unoptimized = onnxruntime.SessionOptions()
    unoptimized.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    plain = in_floats(found, of.graph.initializer[1]).SerializeToString()
    expected = onnxruntime.InferenceSession(plain, unoptimized).run(["y"], inputs)[0]
    answered = open_session(found.SerializeToString()).run(["y"], inputs)[0]
    step = (highest - lowest) / 255
    assert np.isfinite(answered).all()
    assert np.abs(answered - expected).max() <= step * 1.001


def test_the_bias_of_a_dead_channel_is_what_the_channel_answers_whatever_the_inputs_are():
    weight = WEIGHT.copy()
    weight[2] = 0
    of = model(np.float32([0.1, 0.2, 0.3, 0.4, 0.5]))
    of.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    for largest in (50.0, 255.0, 1e6):
        ranges = {"x": TensorRange(threshold=largest, minimum=0.0, maximum=largest)}
        session = open_session(quantized(of, RECIPES[Precision.INT8], ranges).SerializeToString())
        answered = session.run(None, {"x": largest * np.abs(INPUT)})[0]
        np.testing.assert_allclose(answered[:, 2], 0.3, rtol=1e-6)


@pytest.mark.parametrize("bias", [1e3, -1e6, 1e12])
def test_a_channel_whose_weights_are_next_to_nothing_beside_its_bias_answers_the_bias(bias, tmp_path):
    """Its own scale would take the bias beyond int32, or near it, where the products overflow it."""
    weight = WEIGHT.copy()
    weight[2] *= 1e-9
    of = model(np.float32([0.1, 0.2, bias, 0.4, 0.5]))
    of.graph.initializer[0].CopyFrom(numpy_helper.from_array(weight, "w"))
    result = quantized(of, RECIPES[Precision.INT8], RANGES)
    assert "QGemm" in kernels(result, tmp_path)
    answered = open_session(result.SerializeToString()).run(None, {"x": INPUT})[0]
    np.testing.assert_allclose(answered[:, 2], run(of)[:, 2], rtol=1e-6)
    np.testing.assert_allclose(answered[:, [0, 1, 3, 4]], run(of)[:, [0, 1, 3, 4]], atol=0.1)


def test_the_sum_of_a_bias_and_its_products_stays_within_int32():
    """A bias of nearly 2**31 steps fits by itself, and every product adds to it."""
    steps = np.abs(WEIGHT[2]).astype(np.float64).max() / 127 * (1 / 255)
    of = model(np.float32([0.1, 0.2, 0.99999 * 2**31 * steps, 0.4, 0.5]))
    weight = np.abs(WEIGHT)
    of.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.full_like(weight, weight[2].max()), "w"))
    ranges = {"x": TensorRange(threshold=1.0, minimum=0.0, maximum=1.0)}
    session = open_session(quantized(of, RECIPES[Precision.INT8], ranges).SerializeToString())
    inputs = np.full((2, 8), 0.49, np.float32)
    expected = onnxruntime.InferenceSession(of.SerializeToString()).run(None, {"x": inputs})[0]
    np.testing.assert_allclose(session.run(None, {"x": inputs})[0], expected, rtol=0.02)

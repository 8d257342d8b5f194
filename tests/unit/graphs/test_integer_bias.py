"""Integer biases: a Gemm that ONNX Runtime runs in integers, with the float bias's answer."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Precision, TensorRange
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
    "of",
    [model(alpha=0.5), model(beta=2.0), model(np.float32([1.0])), model(np.full(5, 1e12, np.float32))],
    ids=["alpha", "beta", "one value for all", "beyond int32"],
)
def test_a_bias_that_does_not_fit_stays_float(of):
    result = quantized(of, recipe(True), RANGES)
    onnx.checker.check_model(result, full_check=True)
    assert result.graph.node[-1].input[2] == "b"
    np.testing.assert_allclose(run(result), run(of), rtol=0.05, atol=0.1)

"""Scales of channels beside which ONNX Runtime's integer kernels fail, or answer something else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.engines.onnxruntime import session
from regiolect.graphs.exact import openable
from regiolect.graphs.several import one_by_one

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 8, 8)).astype(np.float32)
GIVEN: dict[str, Any] = {
    "one": np.float32(0.03),
    "middle": np.uint8(128),
    "single": np.asarray([0.03], np.float32),
    "central": np.asarray([128], np.uint8),
    "nought": np.int8(0),
    "scales": np.linspace(0.01, 0.03, 8).astype(np.float32),
    "points": np.arange(120, 136, 2).astype(np.uint8),
    "noughts": np.zeros(8, np.int8),
    "w": RNG.integers(-127, 128, (8, 8)).astype(np.int8),
    "v": RNG.integers(-127, 128, (2, 8, 8)).astype(np.int8),
    "f": RNG.normal(0, 1, (8, 8)).astype(np.float32),
    "kernel": RNG.integers(-127, 128, (8, 8, 1)).astype(np.int8),
    "matrix": np.array([-1, 8]),
    "ids": np.arange(8),
    "none": np.array([0]),
    "eight": np.array([8]),
    "first": np.array([1]),
    "deep": np.array([8, 8, 1]),
    "ys": np.float32(0.1),
}
node = helper.make_node


def pair(source: str, made: str, scale: str, point: str, **axis: int) -> list[NodeProto]:
    return [
        node("QuantizeLinear", [source, scale, point], [f"{made}_q"], **axis),
        node("DequantizeLinear", [f"{made}_q", scale, point], [made], **axis),
    ]


def weight(name: str, axis: int, *points: str) -> NodeProto:
    return node("DequantizeLinear", [name, "scales", *points], ["wd"], axis=axis)


ONE = pair("x", "d", "one", "middle")
EACH = pair("x", "d", "scales", "points", axis=1)
LAST = pair("x", "d", "scales", "points", axis=-1)
SINGLE = pair("x", "d", "single", "central")
SCALAR = node("DequantizeLinear", ["w", "one", "nought"], ["wd"])
TURNED = [
    *ONE,
    node("DequantizeLinear", ["w", "scales"], ["wo"], axis=1),
    node("Transpose", ["wo"], ["wd"], perm=[1, 0]),
]
GEMM = [*ONE, node("Reshape", ["d", "matrix"], ["m"])]
FUSED: dict[str, list[NodeProto]] = {
    "rows of a weight": [*ONE, weight("w", 0), node("MatMul", ["d", "wd"], ["o"])],
    "rows of a weight, with zero points": [*ONE, weight("w", 0, "noughts"), node("MatMul", ["d", "wd"], ["o"])],
    "rows of a weight of floats": [
        *ONE,
        *pair("f", "wd", "scales", "noughts", axis=0),
        node("MatMul", ["d", "wd"], ["o"]),
    ],
    "columns of a weight that is turned": [*TURNED, node("MatMul", ["d", "wd"], ["o"])],
    "columns of a batch": [*ONE, weight("v", 2), node("MatMul", ["d", "wd"], ["o"])],
    "rows of a first factor": [*ONE, weight("w", 0), node("MatMul", ["wd", "d"], ["o"])],
    "what a Gemm sums": [*GEMM, weight("w", 0), node("Gemm", ["m", "wd"], ["o"])],
    "what a turned Gemm sums": [*GEMM, weight("w", 1), node("Gemm", ["m", "wd"], ["o"], transB=1)],
    "input channels of a convolution": [*ONE, weight("kernel", 1), node("Conv", ["d", "wd"], ["o"])],
    "channels of an image": [
        *EACH,
        node("DequantizeLinear", ["kernel", "one", "nought"], ["wd"]),
        node("Conv", ["d", "wd"], ["o"]),
    ],
    "rows of an activation": [*EACH, SCALAR, node("MatMul", ["d", "wd"], ["o"])],
    "columns of an activation": [*LAST, SCALAR, node("MatMul", ["wd", "d"], ["o"])],
    "a summand": [*ONE, weight("w", 0), node("Add", ["d", "wd"], ["o"])],
    "two summands": [*EACH, node("Add", ["d", "d"], ["o"])],
    "one tensor": [*EACH, node("Sigmoid", ["d"], ["o"])],
    "a vector of one": [*SINGLE, node("Add", ["d", "d"], ["o"])],
    "a vector of one, and a weight's": [
        *SINGLE,
        node("DequantizeLinear", ["w", "single"], ["wd"]),
        node("MatMul", ["d", "wd"], ["m"]),
        *pair("m", "a", "ys", "middle"),
        node("AveragePool", ["d"], ["b"], kernel_shape=[1]),
        node("Add", ["a", "b"], ["o"]),
    ],
    "an answer": [*ONE, node("Sigmoid", ["d"], ["s"]), *pair("s", "o", "scales", "points", axis=1)],
    "an answer in int8": [*ONE, node("Sigmoid", ["d"], ["s"]), *pair("s", "o", "scales", "noughts", axis=-1)],
}
KEPT: dict[str, list[NodeProto]] = {
    "columns": [*ONE, weight("w", 1), node("MatMul", ["d", "wd"], ["o"])],
    "columns, turned": [
        *ONE,
        node("DequantizeLinear", ["w", "scales"], ["wo"], axis=0),
        node("Transpose", ["wo"], ["wd"]),
        node("MatMul", ["d", "wd"], ["o"]),
    ],
    "Gemm": [*GEMM, weight("w", 1), node("Gemm", ["m", "wd"], ["o"])],
    "turned Gemm": [*GEMM, weight("w", 0), node("Gemm", ["m", "wd"], ["o"], transB=1)],
    "output channels": [*ONE, weight("kernel", 0), node("Conv", ["d", "wd"], ["o"])],
    "columns of a computed factor": [
        *ONE,
        node("Reshape", ["x", "matrix"], ["r"]),
        node("Slice", ["r", "none", "eight"], ["b"]),
        *pair("b", "bd", "scales", "noughts", axis=1),
        node("MatMul", ["d", "bd"], ["o"]),
    ],
    "output channels of a computed kernel": [
        *ONE,
        node("Slice", ["x", "none", "first"], ["b"]),
        node("Reshape", ["b", "deep"], ["k"]),
        *pair("k", "bd", "scales", "noughts", axis=0),
        node("Conv", ["d", "bd"], ["o"]),
    ],
    "a table": [*ONE, weight("w", 0), node("Gather", ["wd", "ids"], ["g"]), node("Add", ["d", "g"], ["o"])],
    "one scale": [*ONE, SCALAR, node("MatMul", ["d", "wd"], ["o"])],
}


def network(nodes: list[NodeProto], packed: bool, opset: int = 20) -> ModelProto:
    """With an answer in 8 bits, or in float32."""
    last = pair("o", "y", "ys", "middle") if packed else [node("Identity", ["o"], ["y"])]
    every = [*nodes, *last]
    read = {name for each in every for name in each.input}
    graph = helper.make_graph(
        every,
        "several",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in GIVEN.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.arithmetic
@pytest.mark.parametrize("packed", [False, True], ids=["floats", "8 bits"])
@pytest.mark.parametrize("case", FUSED)
def test_a_session_opens_runs_and_answers_what_the_graph_says(case: str, packed: bool) -> None:
    """They were up to 71 % away, failed at every run, or did not open, on any processor."""
    model = network(FUSED[case], packed)
    (found,) = session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": X})
    right = np.asarray(ReferenceEvaluator(model).run(None, {"x": X})[0])
    # ONNX Runtime quantizes floats by itself beside a weight of 8 bits; otherwise a step of the answer.
    assert np.abs(found - right).max() <= (0.101 if packed else 0.01 * np.abs(right).max())


@pytest.mark.parametrize("case", FUSED)
def test_so_does_one_where_nothing_is_said_to_saturate(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "EXACT", dict.fromkeys(session.EXACT, "0"))
    model = network(FUSED[case], packed=True)
    session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": X})


@pytest.mark.parametrize("opset", [20, 21])
@pytest.mark.parametrize("case", FUSED)
def test_every_value_stays_what_it_was_and_nothing_is_left_to_write(case: str, opset: int) -> None:
    model = network(FUSED[case], packed=False, opset=opset)
    found = one_by_one(model)
    assert found is not model and one_by_one(found) is found
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True))
    (left,), (right,) = (ReferenceEvaluator(each).run(None, {"x": X}) for each in (found, model))
    np.testing.assert_allclose(np.asarray(left), np.asarray(right), rtol=1e-6, atol=1e-6)


@pytest.mark.arithmetic
@pytest.mark.parametrize("case", KEPT)
def test_they_are_answered_as_the_graph_says(case: str) -> None:
    model = network(KEPT[case], packed=True)
    (found,) = session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": X})
    assert np.abs(found - np.asarray(ReferenceEvaluator(model).run(None, {"x": X})[0])).max() <= 0.101


@pytest.mark.parametrize("case", KEPT)
def test_scales_that_kernels_take_stay(case: str) -> None:
    model = network(KEPT[case], packed=True)
    assert one_by_one(model) is model and openable(model) is model

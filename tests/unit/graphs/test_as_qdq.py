"""Operators that hold their quantization, and the Q/DQ nodes that say the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.engines.onnxruntime.session import open_graph, session_options
from regiolect.errors import UnsupportedOperator
from regiolect.graphs.as_qdq import as_qdq

RNG = np.random.default_rng(0)


def graph_of(operator: str, shape: tuple[int, ...], opset: int = 20, **constants: Any) -> ModelProto:
    """float -> quantized operator -> float, twice, so that the second reads what the first one wrote."""
    attributes = {"pads": [1, 1, 1, 1], "group": 2} if operator == "QLinearConv" else {}
    tail = ["b"] if "b" in constants else []
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node(operator, ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", *tail], ["a"], "one", **attributes),
        helper.make_node(operator, ["a", "ys", "yz", "w", "ws", "wz", "ys", "yz", *tail], ["c"], "two", **attributes),
        helper.make_node("DequantizeLinear", ["c", "ys", "yz"], ["y"]),
    ]
    given = {"xs": np.float32(0.02), "xz": np.uint8(128), "ys": np.float32(0.3), "yz": np.uint8(120), **constants}
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *shape])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", *shape])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def convolution(opset: int = 20, **constants: Any) -> ModelProto:
    weights = {
        "w": RNG.integers(-127, 128, (8, 4, 3, 3)).astype(np.int8),
        "ws": RNG.uniform(0.002, 0.005, 8).astype(np.float32),
        "wz": np.zeros(8, np.int8),
        "b": RNG.integers(-9_000, 9_000, 8).astype(np.int32),
    }
    return graph_of("QLinearConv", (8, 5, 5), opset, **{**weights, **constants})


def product(**constants: Any) -> ModelProto:
    weights = {
        "w": RNG.integers(-127, 128, (16, 16)).astype(np.int8),
        "ws": RNG.uniform(0.004, 0.008, 16).astype(np.float32),
        "wz": RNG.integers(-5, 6, 16).astype(np.int8),
    }
    return graph_of("QLinearMatMul", (4, 16), **{**weights, **constants})


def by_definition(model: ModelProto, x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The two operators as ONNX defines them, in whole numbers."""
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    value = _steps(x / held["xs"], held["xz"])
    for node in model.graph.node[1:3]:
        scale, point, w, w_scale, w_point = (held[name] for name in node.input[1:6])
        start, whole = value - int(point), w.astype(int)
        if node.op_type == "QLinearConv":
            along = (-1, 1, 1)
            sums = _convolved(start, whole - w_point.astype(int).reshape(-1, 1, 1, 1))
            sums = sums + held["b"].astype(int).reshape(along)
        else:
            along = (-1,)
            sums = start @ (whole - w_point.astype(int).reshape(along))
        value = _steps(sums * w_scale.astype(float).reshape(along) * float(scale) / float(held["ys"]), held["yz"])
    return np.asarray((value - int(held["yz"])) * float(held["ys"]))


def _steps(values: NDArray[Any], point: NDArray[Any]) -> NDArray[np.int64]:
    info = np.iinfo(point.dtype)
    return np.clip(np.rint(values).astype(int) + int(point), info.min, info.max)


def _convolved(values: NDArray[Any], weights: NDArray[Any]) -> NDArray[Any]:
    """3 x 3, in two groups, with a border of zeros."""
    bordered = np.pad(values, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(bordered, (3, 3), axis=(2, 3))
    halves = zip(np.split(windows, 2, axis=1), np.split(weights, 2), strict=True)
    return np.concatenate([np.einsum("bchwij,ocij->bohw", part, kernel) for part, kernel in halves], axis=1)


CASES = {
    "convolution, a scale for each channel": lambda: convolution(),
    "convolution, one scale": lambda: convolution(ws=np.float32(0.004), wz=np.int8(0)),
    "convolution, one scale in a vector": lambda: convolution(
        ws=np.array([0.004], np.float32), wz=np.zeros(1, np.int8)
    ),
    "product, a scale for each column": lambda: product(),
    "product, one zero point for all columns": lambda: product(wz=np.int8(3)),
    "product, int8 activations": lambda: product(xz=np.int8(0), yz=np.int8(-8)),
    "product, unsigned weights": lambda: product(
        w=RNG.integers(0, 256, (16, 16)).astype(np.uint8), wz=np.full(16, 128, np.uint8)
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_both_forms_answer_alike(case: str) -> None:
    model = CASES[case]()
    found = as_qdq(model)
    onnx.checker.check_model(onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True))
    operators = {node.op_type for node in found.graph.node}
    assert operators == {"QuantizeLinear", "DequantizeLinear", "Conv" if "convolution" in case else "MatMul"}
    names = [node.name for node in found.graph.node if node.op_type in ("Conv", "MatMul")]
    assert names == ["one", "two"], "what is told of a layer names it as its author did"
    shape = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:])
    x = RNG.normal(0, 1, (3, *shape)).astype(np.float32)
    wanted = by_definition(model, x)
    assert np.unique(wanted.round(1)).size > 30
    # A sum that is halfway between two steps may be rounded either way, in the first layer and so in the second.
    difference = np.abs(np.asarray(ReferenceEvaluator(found).run(None, {"x": x})[0]) - wanted)
    assert np.mean(difference > 0.01) < 0.02
    assert difference.max() <= 0.61


def test_an_older_file_is_raised_to_an_opset_whose_nodes_have_an_axis() -> None:
    found = as_qdq(convolution(opset=12))
    assert found.opset_import[0].version == 13
    x = RNG.normal(0, 1, (2, 8, 5, 5)).astype(np.float32)
    open_graph(found.SerializeToString(), session_options()).run(None, {"x": x})


def test_a_graph_without_such_operators_is_itself() -> None:
    found = as_qdq(product())
    assert as_qdq(found) is found


def test_scales_that_no_such_nodes_have_are_refused() -> None:
    with pytest.raises(UnsupportedOperator, match="node 'one' with constant scales") as caught:
        as_qdq(product(ws=np.full((1, 16), 0.004, np.float32), wz=np.zeros((1, 16), np.int8)))
    assert caught.value.found == "scale 'ws' of shape (1, 16)"
    assert "quant_format=QuantFormat.QDQ" in caught.value.remedy

    with pytest.raises(UnsupportedOperator) as caught:
        as_qdq(product(ws=np.float32(0.004)))
    assert caught.value.found == "scale 'ws' of shape () with zero point 'wz' of (16,)"

    with pytest.raises(UnsupportedOperator) as caught:
        as_qdq(convolution(ys=np.full(8, 0.3, np.float32), yz=np.full(8, 120, np.uint8)))
    assert caught.value.found == "scale 'ys' of shape (8,)", "rows of the batch are not channels"

    computed = product()
    computed.graph.node.insert(0, helper.make_node("ReduceMax", ["x"], ["told"], keepdims=0))
    computed.graph.node[2].input[4] = "told"
    with pytest.raises(UnsupportedOperator) as caught:
        as_qdq(computed)
    assert caught.value.found == "scale or zero point 'told' that is computed"


def test_scales_that_are_constants_in_another_form_are_taken() -> None:
    plain = product()
    other = ModelProto()
    other.CopyFrom(plain)
    del other.graph.initializer[[each.name for each in other.graph.initializer].index("xs")]
    for each in (
        helper.make_node("Identity", ["ws"], ["told"]),
        helper.make_node("Constant", [], ["xs"], value_float=0.02),
    ):
        other.graph.node.insert(0, each)
    assert other.graph.node[3].op_type == "QLinearMatMul"
    other.graph.node[3].input[4] = "told"
    x = {"x": RNG.normal(0, 1, (3, 4, 16)).astype(np.float32)}
    (right,), (found,) = (ReferenceEvaluator(as_qdq(model)).run(None, x) for model in (plain, other))
    np.testing.assert_array_equal(found, right)

"""Computed int8 tensors in products, in sessions that sum exactly where 8 x 8 bits saturate.

Where they do not saturate, each of these tests passes whatever is done; `test_haswell.py` runs them where they do.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.contracts import (
    Arithmetic,
    BatchProfile,
    BuildRequest,
    Performance,
    Precision,
    Target,
    TensorSpec,
)
from regiolect.engines.onnxruntime import builder, session
from regiolect.graphs import protos
from regiolect.graphs.exact import openable, summed_exactly
from regiolect.graphs.unsigned import unsigned
from regiolect.integrity import digest_bytes
from regiolect.storage import LocalStore

pytestmark = pytest.mark.arithmetic
node = helper.make_node


def quantize(source: str, target: str, scale: str = "s", point: str = "z", **attributes: Any) -> NodeProto:
    return node("QuantizeLinear", [source, scale, point], [target], **attributes)


def dequantize(source: str, target: str = "bd", scale: str = "s", point: str = "z", **attributes: Any) -> NodeProto:
    return node("DequantizeLinear", [source, scale, point], [target], **attributes)


# From the float tensor b of 16 x 16, or the int8 tensor i, to bd.
SECOND: dict[str, list[NodeProto]] = {
    "beside": [quantize("b", "q"), dequantize("q")],
    "transposed": [quantize("b", "q"), node("Transpose", ["q"], ["t"], perm=[1, 0]), dequantize("t")],
    "reshaped twice": [
        quantize("b", "q"),
        node("Reshape", ["q", "line"], ["l"]),
        node("Reshape", ["l", "square"], ["t"]),
        dequantize("t"),
    ],
    "joined and cut": [
        quantize("b", "q"),
        node("Concat", ["q", "q"], ["qq"], axis=0),
        node("Slice", ["qq", "one", "end"], ["t"]),
        dequantize("t"),
    ],
    "gathered": [quantize("b", "q"), node("Gather", ["q", "rows"], ["t"]), dequantize("t")],
    "read by two": [quantize("b", "q"), dequantize("q"), node("Neg", ["bd"], ["other"])],
    "dequantized twice": [quantize("b", "q"), dequantize("q"), dequantize("q", "c"), node("Neg", ["c"], ["other"])],
    "told": [quantize("b", "q"), dequantize("q"), node("Identity", ["bd"], ["other"])],
    "told in its 8 bits": [quantize("b", "q"), dequantize("q"), node("Cast", ["q"], ["other"], to=TensorProto.FLOAT)],
    "handed in": [dequantize("i")],
    "handed in, without a zero point": [node("DequantizeLinear", ["i", "s"], ["bd"])],
    "handed in, with a scale that is handed in": [node("DequantizeLinear", ["i", "given"], ["bd"])],
    "a scale for each column": [
        quantize("b", "q", "columns", "zeros", axis=1),
        dequantize("q", "bd", "columns", "zeros", axis=1),
    ],
    "a zero point that is handed in": [
        node("Cast", ["given"], ["none"], to=TensorProto.INT8),
        quantize("b", "q", "s", "none"),
        dequantize("q", "bd", "s", "none"),
    ],
    "a zero point that is not 0, through another name": [
        node("Identity", ["seven"], ["again"]),
        quantize("b", "q", "s", "again"),
        node("Identity", ["q"], ["t"]),
        node("Transpose", ["t"], ["u"], perm=[1, 0]),
        dequantize("u", "bd", "s", "seven"),
    ],
    "a sum of 0 behind it": [
        quantize("b", "q"),
        node("Reshape", ["q", "square"], ["t"]),
        dequantize("t", "c"),
        node("Add", ["c", "nothing"], ["bd"]),
    ],
}
FIRST = {
    "uint8": [quantize("x", "xq", "us", "uz"), dequantize("xq", "xd", "us", "uz")],
    # ONNX Runtime makes it uint8.
    "int8": [quantize("x", "xq"), dequantize("xq", "xd")],
    "int8, moved": [quantize("x", "xq"), node("Reshape", ["xq", "wide"], ["xm"]), dequantize("xm", "xd")],
}
LAST = [quantize("o", "oq", "os", "uz"), dequantize("oq", "y", "os", "uz")]
GIVEN = {
    "s": np.float32(6 / 127),
    "z": np.int8(0),
    "us": np.float32(6 / 255),
    "uz": np.uint8(0),
    "os": np.float32(3),
    "seven": np.int8(-7),
    "columns": np.linspace(0.04, 0.05, 16).astype(np.float32),
    "zeros": np.zeros(16, np.int8),
    "line": np.array([256]),
    "square": np.array([16, 16]),
    "wide": np.array([-1, 16]),
    "one": np.array([0]),
    "end": np.array([16]),
    "rows": np.arange(16),
    "nothing": np.float32(0),
    "w": np.random.default_rng(1).integers(90, 128, (16, 16)).astype(np.int8),
    "kernel": np.array([16, 16, 1, 1]),
    "image": np.array([-1, 16, 1, 1]),
}
TYPES = {"x": TensorProto.FLOAT, "b": TensorProto.FLOAT, "i": TensorProto.INT8, "given": TensorProto.FLOAT}
SHAPES = {"x": ["batch", 16], "b": [16, 16], "i": [16, 16], "given": []}


def network(nodes: list[NodeProto], opset: int = 20) -> ModelProto:
    read = {name for each in nodes for name in each.input}
    made = {name for each in nodes for name in each.output}
    graph = helper.make_graph(
        nodes,
        "product",
        [helper.make_tensor_value_info(name, kind, SHAPES[name]) for name, kind in TYPES.items() if name in read],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", "other") if name in made],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in GIVEN.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def feeds(model: ModelProto) -> dict[str, Any]:
    """Of one sign and nearly one size: the worst for sums of pairs."""
    rng = np.random.default_rng(0)
    values = {
        "x": rng.uniform(4, 6, (3, 16)).astype(np.float32),
        "b": rng.uniform(4, 6, (16, 16)).astype(np.float32),
        "i": rng.integers(90, 128, (16, 16)).astype(np.int8),
        "given": np.asarray(1 / 32, np.float32),
    }
    return {value.name: values[value.name] for value in model.graph.input}


def require_exact(model: ModelProto, level: onnxruntime.GraphOptimizationLevel | None = None) -> None:
    given, options = feeds(model), session.session_options()
    if level is not None:
        options.graph_optimization_level = level
    found = session.open_graph(model.SerializeToString(), options).run(None, given)
    for value, right in zip(found, ReferenceEvaluator(model).run(None, given), strict=True):
        # A step of the answer, where a sum is halfway between two.
        np.testing.assert_allclose(value.astype(float), np.asarray(right, float), rtol=1e-5, atol=3.01)


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("second", SECOND)
def test_a_product_with_a_computed_int8_tensor_is_exact(second: str, first: str) -> None:
    require_exact(network([*FIRST[first], *SECOND[second], node("MatMul", ["xd", "bd"], ["o"]), *LAST]))


@pytest.mark.parametrize("second", ["transposed", "read by two", "handed in", "a scale for each column"])
def test_so_is_one_with_a_bias_and_one_whose_answer_is_not_quantized(second: str) -> None:
    require_exact(network([*FIRST["uint8"], *SECOND[second], node("Gemm", ["xd", "bd"], ["o"], alpha=0.5), *LAST]))
    require_exact(network([*FIRST["uint8"], *SECOND[second], node("MatMul", ["xd", "bd"], ["y"])]))


@pytest.mark.parametrize("moved", [False, True])
def test_so_is_a_convolution_with_a_computed_weight(moved: bool) -> None:
    before = [node("Reshape", ["b", "kernel"], ["k"]), quantize("k", "q")]
    between = [node("Identity", ["q"], ["p"]), node("Reshape", ["p", "kernel"], ["m"])] if moved else []
    nodes = [
        node("Reshape", ["x", "image"], ["v"]),
        quantize("v", "xq", "us", "uz"),
        dequantize("xq", "xd", "us", "uz"),
        *before,
        *between,
        dequantize("m" if moved else "q"),
        node("Conv", ["xd", "bd"], ["o"]),
        *LAST,
    ]
    require_exact(network(nodes))


@pytest.mark.parametrize("points", [["uz", "z"], ["", "zeros"], []])
def test_so_is_a_product_of_integers(points: list[str]) -> None:
    nodes = [
        quantize("x", "xq", "us", "uz"),
        quantize("b", "q"),
        node("MatMulInteger", ["xq", "q", *points], ["whole"]),
        node("Cast", ["whole"], ["y"], to=TensorProto.FLOAT),
    ]
    require_exact(network(nodes))


@pytest.mark.parametrize("level", ["ORT_DISABLE_ALL", "ORT_ENABLE_BASIC", "ORT_ENABLE_ALL"])
@pytest.mark.parametrize("points", [["uz", "z"], ["uz", "zeros"], ["uz"]])
@pytest.mark.parametrize("moved", [False, True])
def test_so_is_one_with_a_weight_whatever_is_optimized(moved: bool, points: list[str], level: str) -> None:
    """Only from extended optimizations on did ONNX Runtime make such a weight unsigned: up to 77 % away."""
    turned = [node("Transpose", ["w"], ["t"], perm=[1, 0])] if moved else []
    nodes = [
        *turned,
        quantize("x", "xq", "us", "uz"),
        node("MatMulInteger", ["xq", "t" if moved else "w", *points], ["whole"]),
        node("Cast", ["whole"], ["y"], to=TensorProto.FLOAT),
    ]
    model = network(nodes)
    require_exact(model, getattr(onnxruntime.GraphOptimizationLevel, level))
    found = unsigned(model)
    assert unsigned(found) is found
    assert TensorProto.INT8 not in {each.data_type for each in found.graph.initializer}


MOVED = {
    "reshaped": [node("Reshape", ["d", "line"], ["m"]), node("Reshape", ["m", "square"], ["bd"])],
    "transposed": [node("Transpose", ["d"], ["bd"], perm=[1, 0])],
    "cut": [node("Slice", ["d", "one", "end"], ["bd"])],
    "deepened": [node("Unsqueeze", ["d", "one"], ["m"]), node("Squeeze", ["m", "one"], ["bd"])],
}


@pytest.mark.parametrize("exact", ["0", "1"])
@pytest.mark.parametrize("moved", MOVED)
def test_floats_of_int8_that_are_moved_are_opened_in_newer_opsets(
    moved: str, exact: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime gave what it made behind the move two types, in every class of x86."""
    monkeypatch.setattr(session, "EXACT", dict.fromkeys(session.EXACT, exact))
    model = network(
        [*FIRST["uint8"], quantize("b", "q"), dequantize("q", "d"), *MOVED[moved], node("MatMul", ["xd", "bd"], ["y"])],
        opset=21,
    )
    session.open_graph(model.SerializeToString(), session.session_options())


@pytest.mark.parametrize("arithmetic", [Arithmetic.SATURATING, Arithmetic.VNNI])
@pytest.mark.parametrize("classed", [True, False])
def test_an_engine_of_theirs_is_built(arithmetic: Arithmetic, classed: bool, tmp_path: Path) -> None:
    nodes = [quantize("x", "q"), dequantize("q", "d"), node("Reshape", ["d", "wide"], ["xd"])]
    weight = [dequantize("w", "bd")]
    onnx.save(network([*nodes, *weight, node("MatMul", ["xd", "bd"], ["y"])], opset=21), tmp_path / "graph.onnx")
    request = BuildRequest(
        model="moved",
        region="eu",
        target=Target(name="here", backend="onnxruntime"),
        precision=Precision.INT8,
        graph=LocalStore(tmp_path / "store").put_bytes((tmp_path / "graph.onnx").read_bytes()),
        inputs=(TensorSpec(name="x", shape=("batch", 16)),),
        outputs=("y",),
        profile=BatchProfile(min=1, opt=2, max=2),
        performance=Performance.LATENCY,
        policy=digest_bytes(b"policy"),
        build_key=digest_bytes(b"key"),
        arithmetic=arithmetic,
    )
    builder.build(tmp_path / "graph.onnx", request, tmp_path, classed=classed)
    assert (tmp_path / "engine.onnx").exists()


def test_older_graphs_are_themselves_where_nothing_saturates() -> None:
    nodes = [*FIRST["int8"], *SECOND["transposed"], node("MatMul", ["xd", "bd"], ["o"]), *LAST]
    for opset in (20, 21):
        model = network(nodes, opset)
        assert (openable(model) is model) == (opset == 20)


def test_so_is_an_operator_that_holds_its_quantization_and_one_in_a_function() -> None:
    inputs = ["xq", "us", "uz", "t", "s", "z", "os", "uz"]
    before = [FIRST["uint8"][0], *SECOND["transposed"][:2]]
    plain = network([*before, node("QLinearMatMul", inputs, ["oq"]), LAST[1]])
    require_exact(plain)
    called = network([*before, node("product", inputs, ["oq"], domain="own"), LAST[1]])
    called.opset_import.append(helper.make_opsetid("own", 1))
    body = node("QLinearMatMul", inputs, ["oq"])
    called.functions.append(
        helper.make_function("own", "product", inputs, ["oq"], [body], [helper.make_opsetid("", 20)])
    )
    require_exact(called)


@pytest.mark.parametrize("second", SECOND)
def test_afterwards_only_what_onnx_runtime_rewrites_is_int8(second: str) -> None:
    model = network([*FIRST["uint8"], *SECOND[second], node("MatMul", ["xd", "bd"], ["o"]), *LAST])
    found = unsigned(model)
    assert (found is model) == (second == "beside")
    assert unsigned(found) is found
    assert summed_exactly(found) is found
    onnx.shape_inference.infer_shapes(found, check_type=True, strict_mode=True)
    types = protos.inferred_types(found)
    read = {types[each.input[0]] for each in found.graph.node if each.op_type == "DequantizeLinear"}
    assert (TensorProto.INT8 in read) == (second == "beside")
    made = {name for each in found.graph.node for name in each.output}
    needed = {name for each in found.graph.node for name in each.input} | {value.name for value in found.graph.output}
    assert made <= needed, "nothing is left over"
    given = feeds(model)
    for value, right in zip(
        ReferenceEvaluator(found).run(None, given), ReferenceEvaluator(model).run(None, given), strict=True
    ):
        np.testing.assert_allclose(value, right, rtol=1e-6)


def test_what_moves_8_bits_moves_them_unsigned_without_more_nodes() -> None:
    model = network([*FIRST["uint8"], *SECOND["transposed"], node("MatMul", ["xd", "bd"], ["o"]), *LAST])
    found = unsigned(model)
    assert sorted(each.op_type for each in found.graph.node) == sorted(each.op_type for each in model.graph.node)


def test_a_tensor_without_a_zero_point_is_exact_too() -> None:
    """From opset 21 on a QuantizeLinear may name its type in place of a zero point."""
    nodes = [
        *FIRST["uint8"],
        node("QuantizeLinear", ["b", "s"], ["q"], output_dtype=TensorProto.INT8),
        node("DequantizeLinear", ["q", "s"], ["bd"]),
        node("MatMul", ["xd", "bd"], ["o"]),
        *LAST,
    ]
    require_exact(network(nodes, opset=21))


def test_8_bits_may_be_moved_any_number_of_times() -> None:
    """600 times ended in a RecursionError."""
    moves = [node("Transpose", [f"m{place}"], [f"m{place + 1}"], perm=[1, 0]) for place in range(600)]
    second = [quantize("b", "m0"), *moves, dequantize("m600")]
    require_exact(network([*FIRST["uint8"], *second, node("MatMul", ["xd", "bd"], ["y"])]))


def test_graphs_without_such_tensors_are_themselves() -> None:
    uint8 = [quantize("b", "q", "us", "uz"), node("Transpose", ["q"], ["t"]), dequantize("t", "bd", "us", "uz")]
    for nodes in (
        [node("MatMul", ["x", "b"], ["y"])],
        [*FIRST["uint8"], *uint8, node("MatMul", ["xd", "bd"], ["y"])],
    ):
        model = network(nodes)
        assert summed_exactly(model) is model

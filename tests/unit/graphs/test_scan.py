from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from regiolect.contracts import Precision
from regiolect.errors import InvalidOnnx, UnsupportedOperator
from regiolect.graphs import scan_graph
from regiolect.graphs.scan import scan

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8


def quantized_by_hand(make_model, kind=np.int8, between=(), weight_only=False, bias=False):
    """x -> Q -> DQ -> (nodes that move) -> Gemm with a dequantized weight."""
    nodes = (
        []
        if weight_only
        else [
            helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
            helper.make_node("DequantizeLinear", ["xq", "s", "z"], ["xd"]),
        ]
    )
    last = "x" if weight_only else "xd"
    for index, (op, more, attributes) in enumerate(between):
        nodes.append(helper.make_node(op, [last, *more], [f"moved{index}"], **attributes))
        last = f"moved{index}"
    nodes.append(helper.make_node("DequantizeLinear", ["wq", "s", "z"], ["wd"]))
    inputs = [last, "wd"]
    if bias:
        nodes.append(helper.make_node("DequantizeLinear", ["bq", "s"], ["bd"]))
        inputs.append("bd")
    nodes.append(helper.make_node("Gemm", inputs, ["y"]))
    weights = {
        "s": np.float32(0.1),
        "z": kind(0),
        "wq": np.ones((4, 3), kind),
        "shape": np.asarray([-1, 4]),
        "bq": np.ones(3, np.int32),
    }
    return make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 3]}, weights, opset=21)


def test_a_float_graph_counts_what_computes_and_not_what_moves(residual_net, tmp_path):
    path = tmp_path / "net.onnx"
    path.write_bytes(residual_net().SerializeToString())
    assert scan_graph(path) == {FP32: 7, FP16: 0, INT8: 0}


@pytest.mark.parametrize("kind", [np.int8, np.uint8])
def test_operands_behind_dequantize_make_int8(make_model, kind):
    assert scan(quantized_by_hand(make_model, kind)) == {FP32: 0, FP16: 0, INT8: 1}


def test_int8_shows_through_nodes_that_only_move_values(make_model):
    moves = [("Transpose", [], {"perm": [1, 0]}), ("Transpose", [], {}), ("Reshape", ["shape"], {})]
    assert scan(quantized_by_hand(make_model, between=moves))[INT8] == 1


def test_a_bias_in_int32_does_not_change_the_answer(make_model):
    assert scan(quantized_by_hand(make_model, bias=True)) == {FP32: 0, FP16: 0, INT8: 1}
    alone = make_model(
        [helper.make_node("DequantizeLinear", ["bq", "s"], ["bd"]), helper.make_node("Add", ["x", "bd"], ["y"])],
        {"x": ["batch", 3]},
        {"y": ["batch", 3]},
        {"bq": np.ones(3, np.int32), "s": np.float32(0.1)},
    )
    assert scan(alone) == {FP32: 1, FP16: 0, INT8: 0}


def test_int8_weights_alone_are_as_coarse_as_int8(make_model):
    # A region that forbids INT8 must see that the weights were quantized.
    assert scan(quantized_by_hand(make_model, weight_only=True)) == {FP32: 0, FP16: 0, INT8: 1}


def test_a_convolution_written_with_integer_operators_is_int8(make_model):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["xq"]),
        helper.make_node("QLinearMatMul", ["xq", "s", "z", "wq", "s", "z", "s", "z"], ["yq"]),
        helper.make_node("DequantizeLinear", ["yq", "s", "z"], ["y"]),
    ]
    weights = {"s": np.float32(0.1), "z": np.int8(0), "wq": np.ones((4, 3), np.int8)}
    model = make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 3]}, weights)
    assert scan(model) == {FP32: 0, FP16: 0, INT8: 1}


def test_mixed_float_types_are_counted_apart(make_model):
    nodes = [
        helper.make_node("Relu", ["x"], ["wide"]),
        helper.make_node("Cast", ["wide"], ["narrow"], to=TensorProto.FLOAT16),
        helper.make_node("Exp", ["narrow"], ["done"]),
        helper.make_node("Cast", ["done"], ["y"], to=TensorProto.FLOAT),
    ]
    assert scan(make_model(nodes, {"x": [3]}, {"y": [3]}, {})) == {FP32: 1, FP16: 1, INT8: 0}


def test_subgraphs_are_counted(make_model):
    def branch(kind):
        node = helper.make_node(kind, ["x"], [f"in_{kind}"], name=kind)
        return helper.make_graph(
            [node], kind, [], [helper.make_tensor_value_info(f"in_{kind}", TensorProto.FLOAT, None)]
        )

    choice = helper.make_node("If", ["yes"], ["y"], then_branch=branch("Exp"), else_branch=branch("Neg"))
    model = make_model([choice], {"x": ["batch"]}, {"y": ["batch"]}, {"yes": np.asarray(True)})
    assert scan(model) == {FP32: 2, FP16: 0, INT8: 0}


def test_local_functions_are_looked_into(make_model):
    model = make_model([helper.make_node("Twice", ["x"], ["y"], domain="own")], {"x": [3]}, {"y": [3]}, {})
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("Exp", ["a"], ["b"]), helper.make_node("Exp", ["b"], ["c"])]
    model.functions.append(helper.make_function("own", "Twice", ["a"], ["c"], body, [helper.make_opsetid("", 18)]))
    assert scan(model) == {FP32: 2, FP16: 0, INT8: 0}


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.FLOAT8E4M3FN])
def test_other_types_are_refused_even_where_nothing_computes(make_model, kind):
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("Cast", ["h"], ["odd"], to=kind),
        helper.make_node("Cast", ["odd"], ["y"], to=TensorProto.FLOAT),
    ]
    model = make_model(nodes, {"x": [3]}, {"y": [3]}, {}, opset=21)
    with pytest.raises(UnsupportedOperator, match=TensorProto.DataType.Name(kind)):
        scan(model)


def test_int4_weights_are_refused(make_model):
    model = quantized_by_hand(make_model, np.int8, weight_only=True)
    packed = helper.make_tensor("wq", TensorProto.INT4, [4, 3], [1] * 12)
    zero = helper.make_tensor("z", TensorProto.INT4, [], [0])
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in ("wq", "z")]
    del model.graph.initializer[:]
    model.graph.initializer.extend([*kept, packed, zero])
    with pytest.raises(UnsupportedOperator, match="INT4"):
        scan(model)


def test_an_operator_of_a_vendor_is_refused(make_model):
    nodes = [
        helper.make_node("Relu", ["x"], ["h"]),
        helper.make_node("FusedGelu", ["h"], ["y"], domain="com.vendor"),
    ]
    model = make_model(nodes, {"x": [3]}, {"y": [3]}, {})
    model.opset_import.append(helper.make_opsetid("com.vendor", 1))
    with pytest.raises((UnsupportedOperator, InvalidOnnx), match="FusedGelu"):
        scan(model)


def test_a_graph_that_computes_nothing_is_refused(make_model):
    model = make_model([helper.make_node("Identity", ["x"], ["y"])], {"x": [3]}, {"y": [3]}, {})
    with pytest.raises(InvalidOnnx, match="compute something"):
        scan(model)


@pytest.mark.parametrize("content", [b"", b"no onnx at all", None], ids=["empty", "text", "truncated"])
def test_a_damaged_file_is_named(residual_net, tmp_path, content):
    path = tmp_path / "net.onnx"
    path.write_bytes(residual_net().SerializeToString()[:900] if content is None else content)
    with pytest.raises(InvalidOnnx, match=r"net\.onnx"):
        scan_graph(path)

"""No type hides on its way to where it computes: not in weights, casts, control flow, attributes or functions."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from regiolect.contracts import Precision
from regiolect.errors import UnsupportedOperator
from regiolect.graphs.scan import scan, typed_nodes

FP32, FP16, INT8 = Precision.FP32, Precision.FP16, Precision.INT8
HALF, WIDE = TensorProto.FLOAT16, TensorProto.FLOAT
W = np.ones((4, 4), np.float32)


def cast(source, made, to):
    return helper.make_node("Cast", [source], [made], to=to)


def by_name(model):
    return {node.name: node.precision for node in typed_nodes(model)}


def product(make_model, nodes, weights, opset=21):
    """x times a matrix `w` that `nodes` make."""
    nodes = [*nodes, helper.make_node("MatMul", ["x", "w"], ["y"], "product")]
    return make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, weights, opset=opset)


def test_nodes_are_named_in_graph_order(residual_net):
    found = typed_nodes(residual_net())
    assert [node.kind for node in found] == ["Conv", "Relu", "Conv", "Add", "Relu", "GlobalAveragePool", "Gemm"]
    assert len({node.name for node in found}) == 7
    unnamed = residual_net()
    unnamed.graph.node[0].name = ""
    assert typed_nodes(unnamed)[0].name == "conv1"


@pytest.mark.parametrize(
    ("nodes", "weights", "expected"),
    [
        ([cast("h", "w", WIDE)], {"h": W.astype(np.float16)}, FP16),
        ([cast("v", "h", HALF), cast("h", "w", WIDE)], {"v": W}, FP16),
        ([cast("q", "w", WIDE)], {"q": W.astype(np.int8)}, INT8),
        ([cast("q", "i", TensorProto.INT32), cast("i", "w", WIDE)], {"q": W.astype(np.uint8)}, INT8),
        (
            [cast("q", "f", WIDE), helper.make_node("Mul", ["f", "s"], ["w"], "scaled")],
            {"q": W.astype(np.int8), "s": np.float32(0.1)},
            INT8,
        ),
        (
            [helper.make_node("DequantizeLinear", ["q", "s"], ["d"]), helper.make_node("Concat", ["d"], ["w"], axis=0)],
            {"q": W.astype(np.int8), "s": np.float32(0.1)},
            INT8,
        ),
        (
            [helper.make_node("DequantizeLinear", ["q", "s"], ["d"]), helper.make_node("Gather", ["d", "i"], ["w"])],
            {"q": W.astype(np.int8), "s": np.float32(0.1), "i": np.arange(4)},
            INT8,
        ),
        ([helper.make_node("Gather", ["v", "i"], ["w"])], {"v": W, "i": np.arange(4).astype(np.int32)}, FP32),
        ([helper.make_node("Transpose", ["v"], ["w"])], {"v": W}, FP32),
    ],
    ids=[
        "stored as FP16",
        "rounded to FP16",
        "int8 and a cast",
        "uint8 and two casts",
        "dequantized by hand",
        "concatenated",
        "gathered",
        "chosen by integers",
        "moved",
    ],
)
def test_weights_count_with_the_type_that_they_are_stored_in(make_model, nodes, weights, expected):
    assert by_name(product(make_model, nodes, weights))["product"] is expected


def test_an_activation_that_is_rounded_on_its_way_counts_with_the_rounding(make_model):
    for to, expected in ((HALF, FP16), (TensorProto.INT8, INT8)):
        nodes = [
            helper.make_node("Exp", ["x"], ["e"], "first"),
            cast("e", "narrow", to),
            helper.make_node("Transpose", ["narrow"], ["moved"]),
            cast("moved", "wide", WIDE),
            helper.make_node("Exp", ["wide"], ["y"], "second"),
        ]
        found = by_name(make_model(nodes, {"x": [3, 3]}, {"y": [3, 3]}, {}))
        assert found == {"first": FP32, "second": expected}


def test_what_was_computed_in_fp16_and_is_widened_computes_in_fp32_from_there(make_model):
    nodes = [
        cast("x", "h", HALF),
        helper.make_node("Exp", ["h"], ["e"], "narrow"),
        helper.make_node("Transpose", ["e"], ["t"]),
        cast("t", "wide", WIDE),
        helper.make_node("Exp", ["wide"], ["y"], "wide"),
    ]
    assert by_name(make_model(nodes, {"x": [3, 3]}, {"y": [3, 3]}, {})) == {"narrow": FP16, "wide": FP32}


def test_masks_and_indices_are_no_quantized_values(make_model):
    nodes = [
        helper.make_node("Greater", ["x", "t"], ["mask"], "compared"),
        cast("mask", "byte", TensorProto.UINT8),
        cast("byte", "number", WIDE),
        helper.make_node("Mul", ["x", "number"], ["y"], "masked"),
    ]
    found = by_name(make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, {"t": np.float32(0)}))
    assert found == {"compared": FP32, "masked": FP32}


def test_integer_arithmetic_on_quantized_values_is_int8(make_model):
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        cast("q", "wide", TensorProto.INT32),
        helper.make_node("MatMul", ["wide", "w"], ["sum"], "hidden"),
        cast("sum", "f", WIDE),
        helper.make_node("Mul", ["f", "s"], ["y"], "scaled"),
    ]
    weights = {"s": np.float32(0.1), "z": np.int8(0), "w": W.astype(np.int32)}
    found = by_name(make_model(nodes, {"x": ["batch", 4]}, {"y": ["batch", 4]}, weights))
    assert found == {"hidden": INT8, "scaled": INT8}


def branch(kind, source, made):
    node = helper.make_node(kind, [source], [made], f"{kind} of {source}")
    return helper.make_graph([node], made, [], [helper.make_tensor_value_info(made, WIDE, None)])


def test_types_are_followed_into_and_out_of_branches(make_model):
    rounded = helper.make_graph(
        [cast("x", "r", HALF), cast("r", "rounded", WIDE)],
        "rounding",
        [],
        [helper.make_tensor_value_info("rounded", WIDE, None)],
    )
    nodes = [
        cast("h", "w", WIDE),
        helper.make_node(
            "If", ["yes"], ["a"], then_branch=branch("Exp", "w", "exp_w"), else_branch=branch("Exp", "x", "exp_x")
        ),
        helper.make_node("If", ["yes"], ["b"], then_branch=rounded, else_branch=branch("Neg", "x", "neg_x")),
        helper.make_node("Abs", ["a"], ["c"], "after computing"),
        helper.make_node("Add", ["c", "b"], ["y"], "after rounding"),
    ]
    weights = {"yes": np.asarray(True), "h": np.ones(4, np.float16)}
    found = by_name(make_model(nodes, {"x": [4]}, {"y": [4]}, weights))
    assert found == {
        "Exp of w": FP16,
        "Exp of x": FP32,
        "Neg of x": FP32,
        "after computing": FP16,  # `a` may be Exp of the constant w, which is a weight in the making
        "after rounding": FP16,
    }


def test_types_are_followed_around_loops(make_model):
    body = helper.make_graph(
        [
            helper.make_node("Exp", ["state"], ["e"], "in the loop"),
            cast("e", "narrow", HALF),
            cast("narrow", "next", WIDE),
            helper.make_node("Identity", ["go"], ["on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", WIDE, [4]),
        ],
        [helper.make_tensor_value_info("on", TensorProto.BOOL, []), helper.make_tensor_value_info("next", WIDE, [4])],
    )
    nodes = [
        helper.make_node("Loop", ["times", "", "x"], ["last"], body=body),
        helper.make_node("Neg", ["last"], ["y"], "after the loop"),
    ]
    found = by_name(make_model(nodes, {"x": [4]}, {"y": [4]}, {"times": np.asarray(3)}))
    assert found == {"in the loop": FP16, "after the loop": FP16}


def test_a_weight_given_to_a_local_function_counts_there(make_model):
    model = make_model(
        [cast("h", "w", WIDE), helper.make_node("Times", ["x", "w"], ["y"], domain="own")],
        {"x": ["batch", 4]},
        {"y": ["batch", 4]},
        {"h": W.astype(np.float16)},
    )
    model.opset_import.append(helper.make_opsetid("own", 1))
    body = [helper.make_node("MatMul", ["a", "b"], ["c"])]
    model.functions.append(helper.make_function("own", "Times", ["a", "b"], ["c"], body, [helper.make_opsetid("", 18)]))
    assert scan(model) == {FP32: 0, FP16: 1, INT8: 0}


def test_a_type_in_an_attribute_counts_and_bfloat16_there_is_refused(make_model):
    def normalized(kind):
        node = helper.make_node("LayerNormalization", ["x", "g"], ["y"], "norm", stash_type=kind)
        return make_model([node], {"x": ["batch", 4]}, {"y": ["batch", 4]}, {"g": np.ones(4, np.float32)})

    assert by_name(normalized(WIDE)) == {"norm": FP32}
    with pytest.raises(UnsupportedOperator, match="BFLOAT16 in tensor 'inside'"):
        typed_nodes(normalized(TensorProto.BFLOAT16))


@pytest.mark.parametrize("kind", [TensorProto.BFLOAT16, TensorProto.DOUBLE, TensorProto.INT16, TensorProto.INT4])
def test_weights_of_a_type_that_no_precision_stands_for_are_refused(make_model, kind):
    model = product(make_model, [cast("odd", "w", WIDE)], {})
    model.graph.initializer.append(helper.make_tensor("odd", kind, [4, 4], [1] * 16))
    with pytest.raises(UnsupportedOperator, match=f"{TensorProto.DataType.Name(kind)} in tensor 'odd'"):
        scan(model)

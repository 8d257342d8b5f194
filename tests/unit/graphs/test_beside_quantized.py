"""What is quantized in a model that arrives with integers: beside weights with scales of any kind, and of constants."""

from __future__ import annotations

import numpy as np
import openvino
import pytest
from onnx import TensorProto, helper

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend
from regiolect.errors import AlreadyQuantized, UnsupportedOperator
from regiolect.graphs import protos, quantize, typed_graph
from regiolect.precision import FLOAT_RECIPES, QUANTIZED_OPERATORS, Recipe

U8 = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS)
X = np.random.default_rng(0).uniform(0, 6, (2, 64)).astype(np.float32)


def quantized(model, ranges, name="onnxruntime"):
    result = quantize.quantized(protos.normalized(model), backend(name).recipe_here(Precision.INT8), ranges)
    protos.check(result)
    return result


def kinds(model):
    return [node.op_type for node in model.graph.node]


def answers(model, name, run):
    if name == "onnxruntime":
        return run(model, {"x": X})["y"]
    core = openvino.Core()
    compiled = core.compile_model(
        core.read_model(model.SerializeToString()), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return compiled([X])[0]


# ------------------------------------------------------------------- weights whose scales differ along what is summed


def scaled(make_model, operator, scale, axis, moved=False, **attributes):
    """x, float, times an int8 weight (64, 32), or (32, 64) where the operator or a Transpose turns it."""
    turned = moved or attributes.get("transB", 0)
    weight = np.random.default_rng(1).integers(-7, 7, (32, 64) if turned else (64, 32)).astype(np.int8)
    block = {"block_size": 16} if np.ndim(scale) == 2 else {}
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=axis, **block),
        *([helper.make_node("Transpose", ["d"], ["t"], perm=[1, 0])] if moved else []),
        helper.make_node(operator, ["r", "t" if moved else "d"], ["y"], **attributes),
    ]
    weights = {"w": weight, "s": np.asarray(scale, np.float32)}
    return make_model(nodes, {"x": ["batch", 64]}, {"y": ["batch", 32]}, weights, 21)


ROWS, COLUMNS = np.linspace(0.01, 0.02, 64), np.linspace(0.01, 0.02, 32)


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("operator", ["MatMul", "Gemm"])
def test_beside_scales_by_blocks_nothing_is_quantized(make_model, ranges_of, run, name, operator):
    """With a quantized activation ONNX Runtime failed at every run."""
    model = scaled(make_model, operator, np.tile(COLUMNS, (4, 1)), 0)
    result = quantized(model, ranges_of(model, {"x": X}), name)
    assert kinds(result) == ["Relu", "DequantizeLinear", operator]
    right = run(model, {"x": X})["y"]
    assert np.abs(answers(result, name, run) - right).max() < 0.02 * np.abs(right).max()


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize(
    ("operator", "axis", "how"),
    [
        ("MatMul", 0, {}),
        ("Gemm", 0, {}),
        ("Gemm", 1, {"transB": 1}),
        ("MatMul", -1, {"moved": True}),
    ],
    ids=["rows", "rows of a Gemm", "rows of a turned Gemm", "rows that were moved"],
)
def test_weights_with_a_scale_for_each_row_are_quantized_anew(make_model, ranges_of, run, name, operator, axis, how):
    """As they were ONNX Runtime failed at every run, and OpenVINO was a third off, with float activations as well."""
    model = scaled(make_model, operator, ROWS, axis, **how)
    result = quantized(model, ranges_of(model, {"x": X}), name)
    assert sorted(kinds(result)) == sorted(["Relu", "QuantizeLinear", "DequantizeLinear", "DequantizeLinear", operator])
    right = run(model, {"x": X})["y"]
    assert np.abs(answers(result, name, run) - right).max() < 0.03 * np.abs(right).max()


@pytest.mark.parametrize(
    ("operator", "scale", "axis", "how"),
    [
        ("MatMul", 0.01, 0, {}),
        ("MatMul", COLUMNS, 1, {}),
        ("MatMul", COLUMNS, 0, {"moved": True}),
        ("Gemm", COLUMNS, -1, {}),
        ("Gemm", COLUMNS, 0, {"transB": 1}),
    ],
    ids=["one", "columns", "columns that were moved", "columns of a Gemm", "columns of a turned Gemm"],
)
def test_beside_one_scale_or_one_a_channel_the_activation_is_quantized(
    make_model, ranges_of, run, operator, scale, axis, how
):
    model = scaled(make_model, operator, scale, axis, **how)
    result = quantized(model, ranges_of(model, {"x": X}))
    assert kinds(result).count("QuantizeLinear") == 1
    right = run(model, {"x": X})["y"]
    assert np.abs(answers(result, "onnxruntime", run) - right).max() < 0.02 * np.abs(right).max()


def test_own_scales_of_channels_are_kept_in_another_shape(make_model):
    """A convolution's weight that is kept as a matrix, its activation quantized as well."""
    model = make_model(
        [
            helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
            helper.make_node("DequantizeLinear", ["q", "xs", "xz"], ["xd"]),
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0),
            helper.make_node("Reshape", ["d", "shape"], ["k"]),
            helper.make_node("Conv", ["xd", "k"], ["y"]),
        ],
        {"x": ["batch", 8, 4, 4]},
        {"y": ["batch", 32, 4, 4]},
        {
            "xs": np.float32(0.1),
            "xz": np.uint8(0),
            "w": np.ones((32, 8), np.int8),
            "s": COLUMNS.astype(np.float32),
            "shape": np.array([32, 8, 1, 1]),
        },
    )
    assert quantize.plan_operands(protos.normalized(model), U8) == ()


def test_an_addition_beside_an_operator_that_is_left_alone_stays_float(make_model, ranges_of):
    model = make_model(
        [
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=0, block_size=32),
            helper.make_node("MatMul", ["x", "d"], ["m"]),
            helper.make_node("Add", ["m", "x"], ["a"]),
            helper.make_node("MatMul", ["a", "v"], ["y"]),
        ],
        {"x": ["batch", 64]},
        {"y": ["batch", 8]},
        {
            "w": np.ones((64, 64), np.int8),
            "s": np.full((2, 64), 0.01, np.float32),
            "v": np.random.default_rng(2).normal(size=(64, 8)).astype(np.float32),
        },
        21,
    )
    plain = protos.normalized(model)
    recipe = U8.model_copy(update={"residual_add": True})
    assert [operand.tensor for operand in quantize.plan_operands(plain, recipe)] == ["a", "v"]


# ----------------------------------------------------------------------------------- what nodes make of constants alone


def behind(make_model, *between):
    """x, quantized, times a weight that Q/DQ and the nodes `between` make of a constant (64, 32)."""
    weight = np.random.default_rng(1).normal(0.1, 1, (64, 32)).astype(np.float32)
    nodes = [
        helper.make_node("QuantizeLinear", ["w", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["w0"]),
        *between,
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MatMul", ["r", between[-1].output[0]], ["y"]),
    ]
    weights = {
        "w": weight,
        "s": np.float32(6 / 255),
        "z": np.uint8(128),
        "start": np.array([0]),
        "end": np.array([32]),
        "axes": np.array([1]),
    }
    return make_model(nodes, {"x": ["batch", 64]}, {"y": ["batch", None]}, weights, 20)


MADE = {
    "Relu": [helper.make_node("Relu", ["w0"], ["w1"])],
    "Slice": [helper.make_node("Slice", ["w0", "start", "end", "axes"], ["w1"])],
    "Concat": [helper.make_node("Concat", ["w0", "w0"], ["w1"], axis=1)],
    "Mul, Relu": [helper.make_node("Mul", ["w0", "w0"], ["w2"]), helper.make_node("Relu", ["w2"], ["w1"])],
}


@pytest.mark.arithmetic
@pytest.mark.parametrize("name", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("how", MADE)
def test_what_nodes_make_of_constants_is_a_weight_and_no_activation(make_model, ranges_of, run, name, how):
    """OpenVINO loaded no engine of it."""
    model = behind(make_model, *MADE[how])
    ranges = {tensor: seen for tensor, seen in ranges_of(model, {"x": X}).items() if tensor != "w1"}
    result = quantized(model, ranges, name)
    assert kinds(result) == ["DequantizeLinear", "Relu", "QuantizeLinear", "DequantizeLinear", "MatMul"]
    product = result.graph.node[-1]
    (weight,) = (node for node in result.graph.node if node.output[0] == product.input[1])
    packed = protos.constants(result.graph)[weight.input[0]]
    assert packed.data_type == TensorProto.INT8
    assert len(protos.constants(result.graph)[weight.input[1]].dims) == 1
    right = run(model, {"x": X})["y"]
    assert np.abs(answers(result, name, run) - right).max() < 0.03 * np.abs(right).max()


def test_an_addition_of_what_nodes_make_of_constants_stays_float(make_model):
    model = make_model(
        [
            helper.make_node("MatMul", ["x", "v"], ["m"]),
            helper.make_node("Relu", ["b"], ["c"]),
            helper.make_node("Add", ["m", "c"], ["y"]),
        ],
        {"x": ["batch", 64]},
        {"y": ["batch", 8]},
        {"v": np.ones((64, 8), np.float32), "b": np.ones(8, np.float32)},
    )
    recipe = U8.model_copy(update={"residual_add": True})
    planned = quantize.plan_operands(protos.normalized(model), recipe)
    assert [operand.tensor for operand in planned] == ["x", "v"]


# ------------------------------------------------------------------------------------------------- integers throughout


def dynamic(make_model, convolution=False):
    """As onnxruntime's quantize_dynamic writes a model of one product or convolution."""
    weight = np.random.default_rng(1).integers(-127, 127, (32, 64, 1) if convolution else (64, 32)).astype(np.int8)
    kind, read = ("ConvInteger", "u") if convolution else ("MatMulInteger", "x")
    nodes = [
        *([helper.make_node("Unsqueeze", ["x", "last"], ["u"])] if convolution else []),
        helper.make_node("DynamicQuantizeLinear", [read], ["q", "qs", "qz"]),
        helper.make_node(kind, ["q", "w", "qz", "z"], ["i"]),
        helper.make_node("Cast", ["i"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["qs", "s"], ["ss"]),
        helper.make_node("Mul", ["c", "ss"], ["y"]),
    ]
    weights = {"w": weight, "z": np.int8(0), "s": np.float32(0.01), "last": np.array([2])}
    given = weights if convolution else {name: value for name, value in weights.items() if name != "last"}
    return make_model(nodes, {"x": ["batch", 64]}, {"y": ["batch", 32, 1] if convolution else ["batch", 32]}, given)


@pytest.mark.parametrize("convolution", [False, True])
def test_a_model_of_integer_products_alone_is_int8_and_nothing_else(
    make_model, keep, store, ranges_of, table_of, run, convolution
):
    """It was refused in INT8 for want of anything to quantize, and in FP32 for being INT8."""
    proto = dynamic(make_model, convolution)
    model = keep(proto)
    right = run(proto, {"x": X})["y"]
    for name in ("onnxruntime", "openvino"):
        recipe = backend(name).recipe_here(Precision.INT8)
        table = table_of(model, ranges_of(proto, {"x": X}))
        graph = protos.load(store.path_of(typed_graph(model, "na", Precision.INT8, recipe, table, store)))
        assert np.abs(answers(graph, name, run) - right).max() < 0.02 * np.abs(right).max()
    with pytest.raises(AlreadyQuantized):
        typed_graph(model, "na", Precision.FP32, FLOAT_RECIPES[Precision.FP32], None, store)
    assert quantize.quantizable(protos.normalized(proto), U8) == ()


def test_integers_that_are_no_weights_make_no_model_int8(make_model):
    model = make_model(
        [helper.make_node("Cast", ["x"], ["i"], to=TensorProto.INT32), helper.make_node("Relu", ["x"], ["y"])],
        {"x": ["batch", 64]},
        {"y": ["batch", 64]},
        {},
    )
    with pytest.raises(UnsupportedOperator, match="INT8 would change nothing"):
        quantized(model, {})

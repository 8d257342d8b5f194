"""Graphs that arrive quantized are summed as they say, in whichever class of arithmetic this process has.

`test_haswell.py` runs these tests once more where 8 x 8 bit products saturate.
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.contracts import Arithmetic, Precision, TensorRange
from regiolect.engines.catalog import backend
from regiolect.evaluate.agreement import distances
from regiolect.graphs import protos, quantize
from regiolect.graphs.as_qdq import as_qdq
from regiolect.precision import traits
from regiolect.storage import LocalStore
from tests.contract.networks import CPU_BACKENDS, answer_of_engine, network, products, require_product, require_same

pytestmark = pytest.mark.arithmetic


@pytest.mark.parametrize("operator", ["QLinearConv", "QLinearMatMul"])
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_operators_that_arrive_quantized_are_summed_as_they_say(name: str, operator: str, store: LocalStore) -> None:
    """Neither library does so by itself: their answers were 38 to 43 % of the largest one away."""
    model = arrives_as(operator)
    x = np.random.default_rng(2).normal(0, 1.5, (2, *SHAPES[operator])).astype(np.float32)
    (right,) = ReferenceEvaluator(model).run(None, {"x": x})
    right = np.asarray(right)
    plain = protos.normalized(as_qdq(model))
    graph = quantize.quantized(plain, backend(name).recipe_here(Precision.INT8), {"x": RANGE, "y": RANGE})
    found = answer_of_engine(name, graph, x, SHAPES[operator], store)
    # Where OpenVINO's weights have to lose a bit. In ONNX Runtime no more than a step that is rounded the other way.
    assert np.abs(found - right).max() <= 0.03 * np.abs(right).max()


HOW = ["beside", "moved", "read twice", "through an operator", "gathered"]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_a_computed_int8_factor_that_arrives_is_summed_as_it_says(name: str, how: str, store: LocalStore) -> None:
    """Neither library does so by itself, but for the first in ONNX Runtime: 38 % of the largest answer away."""
    plain = protos.normalized(as_qdq(with_int8_factor(how)))
    graph = quantize.quantized(plain, backend(name).recipe_here(Precision.INT8), {})
    require_product(name, with_int8_factor(how), graph, store)


def test_a_computed_int8_factor_of_integers_is_summed_as_it_says(store: LocalStore) -> None:
    model = with_int8_factor("as integers")
    require_product("onnxruntime", model, model, store)


node = helper.make_node
COMPUTED = [
    node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
    node("QuantizeLinear", ["t", "s", "middle"], ["tq"]),
]
TO_SECOND = node("DequantizeLinear", ["m", "s", "middle"], ["second"])
PRODUCT = node("MatMul", ["first", "second"], ["y"])
SUM = node("Einsum", ["first", "second"], ["y"], equation="bij,bjk->bik")
SUM_OF_WEIGHTS = node("Einsum", ["first", "second"], ["y"], equation="bij,jk->bik")
FACTORS = {
    "joined": [node("Split", ["tq", "halves"], ["m1", "m2"], axis=1), node("Concat", ["m1", "m2"], ["m"], axis=1)],
    "padded": [node("Pad", ["tq", "nowhere"], ["m"])],
    "expanded": [node("Expand", ["tq", "once"], ["m"])],
    "tiled": [node("Tile", ["tq", "once"], ["m"])],
    "cut": [node("Slice", ["tq", "begin", "end"], ["m"])],
    "gathered": [node("Gather", ["tq", "all"], ["m"], axis=1)],
}
QUANTIZED = node("QuantizeLinear", ["floats", "s", "none"], ["wq"])
TO_WEIGHT = node("DequantizeLinear", ["m", "s", "none"], ["second"])
# Products of x in uint8, `first`, with a computed tensor with zero point 128 or a constant, and their opset.
ARRIVING: dict[str, tuple[list[NodeProto], int]] = {
    **{
        f"a factor that is {how} in its 8 bits": ([*COMPUTED, *nodes, TO_SECOND, PRODUCT], 20)
        for how, nodes in FACTORS.items()
    },
    "a factor that is dequantized with another scale": (
        [*COMPUTED, node("DequantizeLinear", ["tq", "quarter", "middle"], ["second"]), PRODUCT],
        20,
    ),
    "a factor of an Einsum": ([*COMPUTED, node("DequantizeLinear", ["tq", "s", "middle"], ["second"]), SUM], 20),
    "an int8 factor of an Einsum": (
        [
            COMPUTED[0],
            node("QuantizeLinear", ["t", "s", "none"], ["tq"]),
            node("DequantizeLinear", ["tq", "s", "none"], ["second"]),
            SUM,
        ],
        20,
    ),
    "a factor of an Einsum, cut": (
        [
            *COMPUTED,
            node("DequantizeLinear", ["tq", "s", "middle"], ["td"]),
            node("Slice", ["td", "begin", "end"], ["second"]),
            SUM,
        ],
        20,
    ),
    "a factor of an Einsum, cast": (
        [
            *COMPUTED,
            node("Cast", ["tq"], ["floats"], to=TensorProto.FLOAT),
            node("Sub", ["floats", "middle in floats"], ["steps"]),
            node("Mul", ["steps", "s"], ["second"]),
            SUM,
        ],
        20,
    ),
    "a weight of an Einsum, cast": (
        [
            node("Cast", ["w"], ["steps"], to=TensorProto.FLOAT),
            node("Mul", ["steps", "s"], ["second"]),
            SUM_OF_WEIGHTS,
        ],
        20,
    ),
    "a weight of an Einsum": ([node("DequantizeLinear", ["w", "s", "none"], ["second"]), SUM_OF_WEIGHTS], 20),
    "a weight of an Einsum, joined": (
        [
            node("DequantizeLinear", ["few", "s", "none"], ["wd"]),
            node("DequantizeLinear", ["others", "s", "none"], ["vd"]),
            node("Concat", ["wd", "vd"], ["second"], axis=0),
            SUM_OF_WEIGHTS,
        ],
        20,
    ),
    "a weight of a ConvTranspose": (
        [
            node("Reshape", ["first", "image"], ["f"]),
            node("DequantizeLinear", ["kernel", "s", "none"], ["second"]),
            node("ConvTranspose", ["f", "second"], ["y"]),
        ],
        20,
    ),
    "a weight of a ConvTranspose, a scale for each channel": (
        [
            node("Reshape", ["first", "image"], ["f"]),
            node("DequantizeLinear", ["kernel", "columns", "zeros"], ["second"], axis=1),
            node("ConvTranspose", ["f", "second"], ["y"]),
        ],
        20,
    ),
    "a weight with scales of rows that are alike": (
        [node("DequantizeLinear", ["bands", "rows", "nones"], ["second"], axis=0), PRODUCT],
        20,
    ),
    "a weight that is cut in its 8 bits": (
        [QUANTIZED, node("Slice", ["wq", "begin", "end"], ["m"]), TO_WEIGHT, PRODUCT],
        20,
    ),
    "a weight that is joined in its 8 bits": (
        [
            node("Split", ["w", "halves"], ["m1", "m2"], axis=0),
            node("Concat", ["m1", "m2"], ["m"], axis=0),
            TO_WEIGHT,
            PRODUCT,
        ],
        20,
    ),
    "a weight whose QuantizeLinear names its type": (
        [
            node("QuantizeLinear", ["floats", "s"], ["wq"], output_dtype=TensorProto.INT8),
            node("DequantizeLinear", ["wq", "s"], ["second"]),
            PRODUCT,
        ],
        21,
    ),
    "a weight with a zero point that has no name": (
        [node("DequantizeLinear", ["w", "s", ""], ["second"]), PRODUCT],
        20,
    ),
    "a weight with a zero point and a scale that are computed": (
        [
            node("Cast", ["whole"], ["zero"], to=TensorProto.INT8),
            node("Mul", ["s", "one"], ["same"]),
            node("DequantizeLinear", ["w", "same", "zero"], ["second"]),
            PRODUCT,
        ],
        20,
    ),
}


def arriving(nodes: list[NodeProto], opset: int) -> ModelProto:
    """Nodes from x in uint8, which they read as `first`, to y."""
    steps = np.random.default_rng(1).integers(118, 128, (16, 16)).astype(np.int8)
    # Each fits by itself; one behind the other their largest steps are a pair.
    few, others = np.zeros((7, 16), np.int8), np.zeros((9, 16), np.int8)
    few[-1] = others[0] = 127
    constants = {
        "us": np.float32(6 / 255),
        "uz": np.uint8(0),
        "s": np.float32(6 / 127),
        "middle": np.uint8(128),
        "middle in floats": np.float32(128),
        "quarter": np.float32(6 / 127 / 4),
        "columns": np.linspace(5, 6, 8).astype(np.float32) / 127,
        "middles": np.full(8, 128, np.uint8),
        "zeros": np.zeros(8, np.int8),
        "none": np.int8(0),
        "whole": np.int32(0),
        "one": np.float32(1),
        "rows": np.full(16, 6 / 127, np.float32),
        "nones": np.zeros(16, np.int8),
        "halves": np.array([8, 8]),
        "nowhere": np.zeros(6, np.int64),
        "once": np.ones(3, np.int64),
        "begin": np.array([0]),
        "end": np.array([16]),
        "all": np.arange(16),
        "w": steps,
        "bands": np.repeat(np.eye(8, 16, dtype=np.int8), 2, axis=0) * np.int8(127),
        "few": few,
        "others": others,
        "floats": steps * np.float32(6 / 127),
        "kernel": steps[:8, :8].reshape(8, 8, 1, 1),
        "image": np.array([-1, 8, 16, 1]),
    }
    before = [
        node("QuantizeLinear", ["x", "us", "uz"], ["xq"]),
        node("DequantizeLinear", ["xq", "us", "uz"], ["first"]),
    ]
    model = network([*before, *nodes], (8, 16), {}, opset)
    read = {name for each in model.graph.node for name in each.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), key)
        for key, value in constants.items()
        if key in read - {name for each in nodes for name in each.output}
    )
    return onnx.shape_inference.infer_shapes(model)


@pytest.mark.parametrize("how", ARRIVING)
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_a_graph_that_arrives_quantized_is_summed_as_it_says(name: str, how: str, store: LocalStore) -> None:
    """In OpenVINO these were 35 to 45 % of the largest answer away, the one with two scales 300 %."""
    model = arriving(*ARRIVING[how])
    graph = quantize.quantized(protos.normalized(model), backend(name).recipe_here(Precision.INT8), {})
    require_product(name, model, graph, store)


def test_a_factor_with_a_scale_for_each_column_is_summed_as_it_says_or_not_taken(store: LocalStore) -> None:
    """In OpenVINO 35 % away where pairs saturate. With AMX, and with VNNI in AVX512, its kernels leave the second of
    two samples unwritten, which every build finds out. ONNX Runtime runs no such product of batches."""
    columns = node("DequantizeLinear", ["tq", "columns", "middles"], ["second"], axis=2)
    model = arriving([*COMPUTED, columns, PRODUCT], 20)
    graph = quantize.quantized(protos.normalized(model), backend("openvino").recipe_here(Precision.INT8), {})
    found, right = products("openvino", model, graph, store)
    (distance,) = distances({"y": found}, {"y": right}, traits(Precision.INT8).faithful, lambda: {"y": right})
    if backend("openvino").arithmetic() is Arithmetic.SATURATING or distance.share <= distance.allowed:
        require_same(found, right)


def with_int8_factor(how: str) -> ModelProto:
    """x in uint8 times what is made of x in int8."""
    constants = {
        "us": np.float32(6 / 255),
        "uz": np.uint8(0),
        "s": np.float32(6 / 127),
        "z": np.int8(0),
        "ys": np.float32(4),
        "ss": np.float32(6 / 127 * 6 / 255),
        "all": np.arange(16),
    }
    node = helper.make_node
    turned = [node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), node("QuantizeLinear", ["t", "s", "z"], ["tq"])]
    moved = [
        node("QuantizeLinear", ["x", "s", "z"], ["xi"]),
        node("Transpose", ["xi"], ["tq"], perm=[0, 2, 1]),
    ]
    gathered = [
        *turned[:-1],
        node("QuantizeLinear", ["t", "s", "z"], ["ti"]),
        node("Gather", ["ti", "all"], ["tq"], axis=1),
    ]
    product = [
        node("DequantizeLinear", ["xq", "us", "uz"], ["xd"]),
        node("DequantizeLinear", ["tq", "s", "z"], ["td"]),
        node("MatMul", ["xd", "td"], ["o"]),
        node("QuantizeLinear", ["o", "ys", "uz"], ["oq"]),
        node("DequantizeLinear", ["oq", "ys", "uz"], ["y"]),
    ]
    twice = [
        node("ReduceSum", ["td"], ["sum"], keepdims=1),
        node("Sub", ["sum", "sum"], ["nothing"]),
        node("DequantizeLinear", ["oq", "ys", "uz"], ["yd"]),
        node("Add", ["yd", "nothing"], ["y"]),
    ]
    operator = node("QLinearMatMul", ["xq", "us", "uz", "tq", "s", "z", "ys", "uz"], ["oq"])
    integers = [
        node("MatMulInteger", ["xq", "tq", "uz", "z"], ["whole"]),
        node("Cast", ["whole"], ["wide"], to=TensorProto.FLOAT),
        node("Mul", ["wide", "ss"], ["y"]),
    ]
    nodes = {
        "beside": [*turned, *product],
        "moved": [*moved, *product],
        "gathered": [*gathered, *product],
        "read twice": [*turned, *product[:-1], *twice],
        "through an operator": [*moved, operator, product[-1]],
        "as integers": [*turned, *integers],
    }[how]
    model = network([node("QuantizeLinear", ["x", "us", "uz"], ["xq"]), *nodes], (8, 16), {})
    read = {name for each in nodes for name in each.input}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), key)
        for key, value in constants.items()
        if key in {"us", "uz"} | read
    )
    return onnx.shape_inference.infer_shapes(model)


SHAPES = {"QLinearConv": (16, 4, 4), "QLinearMatMul": (5, 16)}
RANGE = TensorRange(threshold=4, minimum=-4, maximum=4)


def arrives_as(operator: str) -> ModelProto:
    """A product or a convolution of 16 channels, quantized by somebody else, in the form of operators."""
    convolution, rng = operator == "QLinearConv", np.random.default_rng(0)
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(128),
        "w": rng.integers(-127, 128, (8, 16, 1, 1) if convolution else (16, 8)).astype(np.int8),
        "ws": rng.uniform(0.005, 0.01, 8).astype(np.float32),
        "wz": np.zeros(8, np.int8),
        "ys": np.float32(0.2),
        "yz": np.uint8(128),
        "b": rng.integers(-20_000, 20_000, 8).astype(np.int32),
    }
    inputs = ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if convolution else [])]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node(operator, inputs, ["a"], name="quantized"),
        helper.make_node("DequantizeLinear", ["a", "ys", "yz"], ["y"]),
    ]
    model = network(nodes, SHAPES[operator], {})
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items())
    return onnx.shape_inference.infer_shapes(model)

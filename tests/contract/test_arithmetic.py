"""INT8 engines answer as their graphs say, in whichever class of arithmetic this process has.

`test_haswell.py` runs these tests once more where 8 x 8 bit products saturate.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.contracts import Arithmetic, BuildRequest, Precision, TensorRange
from regiolect.engines.catalog import backend
from regiolect.engines.openvino.runtime import PRECISION_HINTS
from regiolect.graphs import protos, quantize
from regiolect.storage import LocalStore
from tests.contract.networks import CPU_BACKENDS, Array, answer_of_engine, network, require_product

pytestmark = pytest.mark.arithmetic


def heavy(*shape: int) -> Array:
    """Weights of one sign and nearly one size: the worst for sums of pairs."""
    return np.random.default_rng(0).uniform(0.6, 1, shape).astype(np.float32)


def convolution(channels: int, made: int, side: int, **attributes: int) -> ModelProto:
    """A convolution between two others, so that ONNX Runtime runs it in integers."""
    node, kernel = helper.make_node, heavy(made, channels // attributes.get("group", 1), side, side)
    nodes = [
        node("Conv", ["x", "w"], ["c"], pads=[side // 2] * 4, **attributes),
        node("Relu", ["c"], ["r"]),
        node("Conv", ["r", "v"], ["y"]),
    ]
    return network(nodes, (channels, 6, 6), {"w": kernel, "v": heavy(8, made, 1, 1)})


def product(*nodes: NodeProto, **weights: Array) -> ModelProto:
    return network(list(nodes), (8, 64), weights)


LAYERS: dict[str, Callable[[], ModelProto]] = {
    "Conv 1x1": lambda: convolution(16, 16, 1),
    "Conv 3x3": lambda: convolution(32, 32, 3),
    "Conv of an image": lambda: convolution(3, 32, 3),
    "Conv in groups": lambda: convolution(32, 32, 3, group=4),
    "Conv by channel": lambda: convolution(32, 32, 3, group=32),
    "Conv by channel, two of each": lambda: convolution(16, 32, 3, group=16),
    "Gemm": lambda: network(
        [helper.make_node("Gemm", ["x", "w", "b"], ["y"], transB=1)], (64,), {"w": heavy(32, 64), "b": heavy(32)}
    ),
    "MatMul": lambda: product(helper.make_node("MatMul", ["x", "w"], ["y"]), w=heavy(64, 32)),
    "MatMul of one weight, twice": lambda: product(
        helper.make_node("MatMul", ["x", "w"], ["a"]),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("MatMul", ["r", "w"], ["y"]),
        w=heavy(64, 64),
    ),
    "MatMul of a batch of matrices": lambda: network(
        [helper.make_node("MatMul", ["x", "w"], ["y"])], (4, 8, 64), {"w": heavy(4, 64, 32)}
    ),
    "MatMul of a constant": lambda: product(helper.make_node("MatMul", ["w", "x"], ["y"]), w=heavy(4, 8)),
    "MatMul of two activations": lambda: product(
        helper.make_node("Mul", ["x", "k"], ["a"]),
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["a", "t"], ["y"]),
        k=heavy(1),
    ),
}


def float_answers(model: ModelProto, x: Array, *names: str) -> list[Array]:
    """Tensors of a graph, each operator computed as ONNX defines it, in float32."""
    shown = ModelProto()
    shown.CopyFrom(model)
    del shown.graph.output[:]
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(shown.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return [np.asarray(value, np.float32) for value in session.run(list(names), {"x": x})]


def ranges_of(model: ModelProto, x: Array) -> dict[str, TensorRange]:
    names = [name for node in model.graph.node for name in node.output]
    seen = {"x": x, **dict(zip(names, float_answers(model, x, *names), strict=True))}
    return {
        name: TensorRange(threshold=float(np.abs(value).max()), minimum=float(value.min()), maximum=float(value.max()))
        for name, value in seen.items()
    }


@cache
def inputs(shape: tuple[int, ...], signed: bool) -> Array:
    return np.random.default_rng(1).uniform(-1 if signed else 0.7, 1, (2, *shape)).astype(np.float32)


@pytest.mark.parametrize("signed", [False, True], ids=["positive", "both signs"])
@pytest.mark.parametrize("layers", LAYERS)
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_an_engine_sums_what_its_graph_says(name: str, layers: str, signed: bool, store: LocalStore) -> None:
    model = protos.normalized(LAYERS[layers]())
    shape = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim[1:])
    x = inputs(shape, signed)
    graph = quantize.quantized(model, backend(name).recipe_here(Precision.INT8), ranges_of(model, x))
    (right,) = float_answers(graph, x, "y")
    found = answer_of_engine(name, graph, x, shape, store)
    # One step of an activation between two layers, which a sum that is halfway between two steps may take either way.
    assert np.abs(found - right).max() <= 0.005 * np.abs(right).max()


FIRST = {
    "positive": [helper.make_node("Relu", ["x"], ["r"])],
    "probabilities": [helper.make_node("Mul", ["x", "tenth"], ["l"]), helper.make_node("Softmax", ["l"], ["r"])],
    "probabilities of columns": [
        helper.make_node("Mul", ["x", "tenth"], ["l"]),
        helper.make_node("Softmax", ["l"], ["r"], axis=-2),
    ],
    "constant": [],
}


@pytest.mark.parametrize("first", FIRST)
@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_a_factor_with_a_range_that_is_alike_on_both_sides_is_summed_as_its_graph_says(
    name: str, first: str, store: LocalStore
) -> None:
    """OpenVINO takes uint8 with zero point 128 for int8: 33 to 65 % of the largest answer away."""
    nodes = [
        *FIRST[first],
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["r", "t"], ["y"]),
    ]
    weights = {"tenth": np.float32(0.1)} if FIRST[first][1:] else {} if FIRST[first] else {"r": heavy(4, 16)}
    model = protos.normalized(network(nodes, (8, 16), weights))
    x = np.random.default_rng(0).uniform(4, 6, (2, 8, 16)).astype(np.float32)
    ranges = ranges_of(model, x) | {"t": TensorRange(threshold=6, minimum=-6.5, maximum=6.5)}
    graph = quantize.quantized(model, backend(name).recipe_here(Precision.INT8), ranges)
    require_product(name, graph, graph, store)


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_plain_8_bit_weights_saturate_where_the_class_says_so_and_nowhere_else(name: str) -> None:
    """16 products of 1 x 1: without this the tests above could not fail."""
    constants = {
        "s": np.float32(1 / 255),
        "z": np.uint8(0),
        "w": np.full((16, 8), 127, np.int8),
        "ws": np.float32(1 / 127),
        "wz": np.int8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"]),
        helper.make_node("MatMul", ["d", "wd"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "plain",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10).SerializeToString()
    ones = np.ones((4, 16), np.float32)
    if name == "openvino":
        core = openvino.Core()
        (answer,) = core.compile_model(core.read_model(model), "CPU", PRECISION_HINTS)([ones]).values()
    else:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        (answer,) = session.run(None, {"x": ones})
    saturates = backend(name).arithmetic() is Arithmetic.SATURATING
    # Of each pair 32,767 of 64,770 is kept.
    np.testing.assert_allclose(answer, 8 * 32767 / (127 * 255) if saturates else 16, rtol=1e-3)


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_where_pairs_saturate_a_plain_recipe_would_be_wrong(name: str) -> None:
    """What makes the recipe of a class necessary, and sufficient."""
    recipe = backend(name).recipe(Precision.INT8, Arithmetic.SATURATING)
    plain = backend(name).recipe(Precision.INT8, Arithmetic.VNNI)
    assert recipe.pairs_in_int16 == (name == "openvino")
    assert not plain.pairs_in_int16
    assert backend(name).recipe(Precision.INT8, None) == recipe, "what is right in every class, where it is not known"
    assert recipe.model_copy(update={"pairs_in_int16": False}) == plain


def test_a_session_tells_of_its_exact_kernels_and_says_nothing_else(
    request_for: Callable[..., BuildRequest], store: LocalStore, capfd: pytest.CaptureFixture[str]
) -> None:
    library = backend("onnxruntime")
    engine = library.load(library.build(request_for("onnxruntime", Precision.INT8), store), store)
    saturates = library.arithmetic() is Arithmetic.SATURATING
    assert engine.settings()["session.x64quantprecision"] == ("1" if saturates else "0")
    assert capfd.readouterr() == ("", "")

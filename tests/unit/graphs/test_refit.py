"""Graphs that arrive quantized, for kernels that add products in pairs: no pair leaves int16, and answers stay near."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from regiolect.contracts import Precision, TensorRange
from regiolect.engines.catalog import backend
from regiolect.graphs import protos, quantize, typed_graph
from regiolect.graphs import refit as refit_module
from regiolect.graphs import unsigned as unsigned_module
from regiolect.graphs.refit import off_middle, refit
from regiolect.graphs.unsigned import unsigned
from regiolect.precision import QUANTIZED_OPERATORS, Recipe

pytestmark = pytest.mark.arithmetic
PAIRED = Recipe(activation="uint8", operators=QUANTIZED_OPERATORS, residual_add=True, pairs_in_int16=True)
RANGES = {"x": TensorRange(threshold=1, minimum=0, maximum=1)}
RNG = np.random.default_rng(0)


def quantized_matmul(weight, scale, point, *, activation=np.uint8, attributes=None, between=(), floats=False):
    """x @ w, both through Q/DQ nodes; `floats` holds w in float32 and quantizes it in the graph, as QAT exports do."""
    attributes = attributes or {}
    zero = {np.uint8: 0, np.int8: -128}[activation]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node("DequantizeLinear", ["xq", "xs", "xz"], ["xd"]),
        *([helper.make_node("QuantizeLinear", ["wf", "ws", "wz"], ["w"], **attributes)] if floats else []),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], **attributes),
        *between,
        helper.make_node("MatMul", ["xd", between[-1].output[0] if between else "wd"], ["y"]),
    ]
    shape = [-1 if index == attributes.get("axis") else 1 for index in range(np.ndim(weight))]
    values = np.asarray(weight, np.float32) - np.reshape(point, shape) if np.ndim(point) else weight - np.float32(point)
    held = {
        "xs": np.float32(1 / 255),
        "xz": activation(zero),
        "ws": np.asarray(scale, np.float32),
        "wz": np.asarray(point, weight.dtype),
        **({"wf": values.astype(np.float32)} if floats else {"w": weight}),
    }
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    protos.check(model)
    return model


def refitted(model):
    result = onnx.ModelProto()
    result.CopyFrom(unsigned(model, every=True))
    refit(result)
    protos.check(result)
    return result


def constants(model):
    return {name: numpy_helper.to_array(tensor) for name, tensor in protos.constants(model.graph).items()}


ALIKE = np.full((16, 8), 127, np.int8)
MIXED = RNG.integers(-127, 128, (16, 8)).astype(np.int8)
ARRIVING = {
    "one scale": quantized_matmul(ALIKE, 1 / 127, 0),
    "per channel": quantized_matmul(MIXED, np.linspace(0.01, 1, 8), np.zeros(8), attributes={"axis": 1}),
    "transposed": quantized_matmul(
        np.ascontiguousarray(MIXED.T),
        np.linspace(0.01, 1, 8),
        np.zeros(8),
        attributes={"axis": 0},
        between=[helper.make_node("Transpose", ["wd"], ["wt"], perm=[1, 0])],
    ),
    "unsigned": quantized_matmul(RNG.integers(0, 256, (16, 8)).astype(np.uint8), 1 / 127, 131),
    "held as floats": quantized_matmul(MIXED, 1 / 127, 0, floats=True),
    "signed activation": quantized_matmul(MIXED, 1 / 127, 0, activation=np.int8),
}


@pytest.mark.parametrize("how", ARRIVING)
def test_pairs_fit_afterwards_and_answers_stay_near(run, how):
    before, after = ARRIVING[how], refitted(ARRIVING[how])
    made_by = protos.producers(after.graph)
    product = made_by["y"]
    weight = constants(after)[protos.dequantizer_of(product.input[1], made_by).input[0]]
    assert weight.dtype == np.int8 and np.sort(np.abs(weight.astype(int)), axis=None)[-2:].sum() <= 2 * 127
    columns = weight.astype(int) if weight.shape == (16, 8) else weight.astype(int).T
    pairs = np.triu(np.ones((16, 16), bool), 1)
    sums = (columns[:, None, :] + columns[None, :, :])[pairs]
    assert 100 < np.abs(sums).max() <= 128
    assert constants(after)[made_by["xd"].input[2]].dtype == np.uint8
    x = np.random.default_rng(1).uniform(0, 1, (32, 16)).astype(np.float32)
    expected, found = run(before, {"x": x})["y"], run(after, {"x": x})["y"]
    # Half a step of each of 16 weights, over all that they can add up to.
    assert np.abs(found - expected).max() <= np.abs(expected).max() * 0.02
    assert {name for node in after.graph.node for name in node.input} >= constants(after).keys(), "nothing is left over"


def test_what_fits_stays_byte_for_byte():
    model = quantized_matmul(np.full((16, 8), 64, np.int8), 1 / 64, 0)
    assert protos.to_bytes(refitted(model)) == protos.to_bytes(model)


def test_an_int8_activation_becomes_uint8_with_the_same_values(run):
    nodes = [
        *(
            helper.make_node(kind, [source, "s", "z"], [target])
            for one in "ab"
            for kind, source, target in (
                ("QuantizeLinear", one, f"{one}q"),
                ("DequantizeLinear", f"{one}q", f"{one}d"),
            )
        ),
        helper.make_node("MatMul", ["ad", "bd"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "product",
        [
            helper.make_tensor_value_info("a", onnx.TensorProto.FLOAT, ["batch", 4, 16]),
            helper.make_tensor_value_info("b", onnx.TensorProto.FLOAT, ["batch", 16, 4]),
        ],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["batch", 4, 4])],
        [numpy_helper.from_array(np.float32(0.01), "s"), numpy_helper.from_array(np.int8(3), "z")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    after = refitted(model)
    packed = [node for node in after.graph.node if node.op_type.endswith("Linear")]
    assert len(packed) == 4 and {constants(after)[node.input[2]].dtype for node in packed} == {np.dtype(np.uint8)}
    feeds = {"a": RNG.uniform(-2, 2, (2, 4, 16)), "b": RNG.uniform(-2, 2, (2, 16, 4))}
    feeds = {name: value.astype(np.float32) for name, value in feeds.items()}
    np.testing.assert_allclose(run(after, feeds)["y"], run(model, feeds)["y"], rtol=1e-5, atol=1e-5)


def test_steps_that_others_read_stay_signed():
    model = ARRIVING["signed activation"]
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    shown.graph.output.append(helper.make_tensor_value_info("xq", onnx.TensorProto.INT8, ["batch", 16]))
    after = refitted(shown)
    made_by, held = protos.producers(after.graph), constants(after)
    assert held[made_by["xq"].input[2]].dtype == np.int8
    assert held[made_by["xd"].input[2]].dtype == np.uint8


def test_a_recipe_for_pairs_refits_what_arrives_and_others_leave_it(keep, store, table_of):
    model = keep(ARRIVING["one scale"])
    table = table_of(model, RANGES)
    plain = PAIRED.model_copy(update={"pairs_in_int16": False})
    kept = typed_graph(model, "na", Precision.INT8, plain, table, store)
    assert store.path_of(kept).read_bytes() == store.path_of(model.graph).read_bytes()
    assert quantize.quantizable(ARRIVING["one scale"], PAIRED) == ()
    fitting = protos.load(store.path_of(typed_graph(model, "na", Precision.INT8, PAIRED, table, store)))
    assert max(np.abs(value).max() for value in constants(fitting).values() if value.dtype == np.int8) == 64


def test_a_ready_quantized_graph_answers_right_on_this_processor(keep, store, table_of, run):
    """16 in every class of arithmetic; where 8 x 8 bits saturate, the graph as it came answers 8.09."""
    import openvino

    model = keep(ARRIVING["one scale"])
    recipe = backend("openvino").recipe_here(Precision.INT8)
    graph = typed_graph(model, "na", Precision.INT8, recipe, table_of(model, RANGES), store)
    ones = np.ones((4, 16), np.float32)
    core = openvino.Core()
    read = core.read_model(store.path_of(graph).read_bytes())
    answer = core.compile_model(read, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})([ones])[0]
    np.testing.assert_allclose(answer, 16, rtol=1e-5)
    np.testing.assert_allclose(run(ARRIVING["one scale"], {"x": ones})["y"], 16, rtol=1e-5)


def product_of_two(first="Relu", *between):
    """Relu or Softmax of x, times x with zero point 128."""
    node, moved = helper.make_node, between[-1].output[0] if between else "sq"
    nodes = [
        node(first, ["x"], ["r"]),
        node("QuantizeLinear", ["r", "rs", "rz"], ["rq"]),
        node("DequantizeLinear", ["rq", "rs", "rz"], ["rd"]),
        node("QuantizeLinear", ["x", "ss", "sz"], ["sq"]),
        *between,
        node("DequantizeLinear", [moved, "ss", "sz"], ["sd"]),
        node("MatMul", ["rd", "sd"], ["y"]),
    ]
    held = {"rs": np.float32(1 / 255), "rz": np.uint8(0), "ss": np.float32(1 / 127.5), "sz": np.uint8(128)}
    graph = helper.make_graph(
        nodes,
        "two",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [8, 8])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [8, 8])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def moved_off(model):
    result = onnx.ModelProto()
    result.CopyFrom(model)
    off_middle(result)
    protos.check(result)
    once = protos.to_bytes(result)
    off_middle(result)
    assert protos.to_bytes(result) == once
    return result


TRANSPOSED = helper.make_node("Transpose", ["sq"], ["st"], perm=[1, 0])
READ = helper.make_node("Cast", ["sq"], ["other"], to=onnx.TensorProto.FLOAT)


@pytest.mark.parametrize("first", ["Relu", "Softmax", "Identity"])
@pytest.mark.parametrize("between", [(), (TRANSPOSED,), (READ, TRANSPOSED)])
def test_a_second_factor_that_openvino_would_take_for_int8_is_shifted_by_a_step(run, between, first):
    """Whatever the first one is: two probabilities add up to 510 steps where all are alike."""
    before = product_of_two(first, *between)
    after = moved_off(before)
    held, made_by = constants(after), protos.producers(after.graph)
    second = protos.dequantizer_of("sd", made_by)
    source = made_by[second.input[0]]
    quantize = made_by[source.input[0]] if between else source
    assert held[second.input[2]] == held[quantize.input[2]] == 127
    assert held[second.input[1]] == held[quantize.input[1]] > np.float32(1 / 127.5)
    assert held.keys().isdisjoint({"ss", "sz"}), "nothing is left over"
    x = np.random.default_rng(1).uniform(-1, 1, (8, 8)).astype(np.float32)
    expected, found = run(before, {"x": x})["y"], run(after, {"x": x})["y"]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_factor_that_is_dequantized_with_another_scale_keeps_it(run):
    """It got the QuantizeLinear's: four times the answer."""
    before = product_of_two()
    before.graph.initializer.append(numpy_helper.from_array(np.float32(1 / 127.5 / 4), "quarter"))
    before.graph.node[4].input[1] = "quarter"
    after = moved_off(before)
    assert constants(after)[after.graph.node[4].input[2]] == 127
    x = np.random.default_rng(1).uniform(-1, 1, (8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], atol=0.005)


JOINED = helper.make_node("Concat", ["sq"], ["st"], axis=0)


def test_a_factor_that_is_joined_in_its_8_bits_keeps_its_values_but_the_lowest(run):
    before = product_of_two("Relu", JOINED)
    after = moved_off(before)
    made_by, held = protos.producers(after.graph), constants(after)
    assert held[made_by["sd"].input[2]] == 127 and held[made_by["sd"].input[1]] == np.float32(1 / 127.5)
    x = np.random.default_rng(1).uniform(-0.99, 1, (8, 8)).astype(np.float32)
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], atol=1e-6)
    x[0, 0] = -1.01
    np.testing.assert_allclose(run(after, {"x": x})["y"], run(before, {"x": x})["y"], atol=1.01 / 127.5)


def test_a_first_factor_stays_in_the_middle():
    model = product_of_two()
    model.graph.node[-1].input[:] = ["sd", "rd"]
    assert protos.to_bytes(moved_off(model)) == protos.to_bytes(model)


def steps_of(model):
    return next(value for value in constants(model).values() if value.dtype == np.int8 and value.shape == (16, 8))


def test_a_constant_that_is_gathered_may_meet_itself(run):
    """Two of its rows fit, but one row taken twice did not."""
    weight = np.zeros((16, 8), np.int8)
    weight[3] = 127
    rows = helper.make_node("Constant", [], ["rows"], value=numpy_helper.from_array(np.full(16, 3)))
    gather = helper.make_node("Gather", ["wd", "rows"], ["g"], axis=0)
    model = quantized_matmul(weight, 1 / 127, 0, between=[rows, gather])
    assert np.abs(steps_of(model)).max() == 127
    after = refitted(model)
    assert np.abs(steps_of(after)).max() == 64
    ones = np.ones((2, 16), np.float32)
    np.testing.assert_allclose(run(after, {"x": ones})["y"], run(model, {"x": ones})["y"], rtol=1e-5)


def test_scales_of_rows_that_are_alike_are_one():
    """OpenVINO takes them for one: each row fits alone, two did not."""
    weight = np.eye(16, 8, dtype=np.int8) * 127 + np.eye(16, 8, -1, dtype=np.int8) * 127
    columns = quantized_matmul(weight, np.full(16, 1 / 127), np.zeros(16), attributes={"axis": 0})
    assert np.abs(steps_of(refitted(columns))).max() == 64


def test_a_constant_without_values_stays():
    model = quantized_matmul(ALIKE, 1 / 127, 0)
    empty = [np.zeros((16, 0), np.int8), np.zeros(0, np.float32), np.zeros(0, np.int8)]
    model.graph.initializer.extend(numpy_helper.from_array(value, f"empty{place}") for place, value in enumerate(empty))
    model.graph.node.append(helper.make_node("DequantizeLinear", [f"empty{place}" for place in range(3)], ["none"]))
    model.graph.output.append(helper.make_tensor_value_info("none", onnx.TensorProto.FLOAT, [16, 0]))
    assert np.abs(steps_of(refitted(model))).max() == 64


def layers(count):
    """Products one behind the other, of int8 tensors that are moved."""
    nodes, weights = [], []
    for place in range(count):
        s, z, source = f"s{place}", f"z{place}", f"a{place}" if place else "x"
        nodes += [
            helper.make_node("QuantizeLinear", [source, s, z], [f"q{place}"]),
            helper.make_node("Transpose", [f"q{place}"], [f"t{place}"], perm=[0, 1]),
            helper.make_node("DequantizeLinear", [f"t{place}", s, z], [f"d{place}"]),
            helper.make_node("DequantizeLinear", [f"w{place}", s, z], [f"v{place}"]),
            helper.make_node("MatMul", [f"d{place}", f"v{place}"], [f"a{place + 1}"]),
        ]
        weights += [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in ((s, np.float32(0.1)), (z, np.int8(0)), (f"w{place}", np.full((4, 4), 127, np.int8)))
        ]
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info(f"a{count}", onnx.TensorProto.FLOAT, ["batch", 4])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_each_node_is_looked_at_a_few_times(monkeypatch):
    """500 layers took 50 s: every node was looked at once for every tensor that was replaced."""
    model, count = layers(60), [0]
    reads = protos.reads

    def counted(node):
        count[0] += 1
        return reads(node)

    for module in (protos, refit_module, unsigned_module):
        monkeypatch.setattr(module, "reads", counted)
    after = onnx.ModelProto()
    after.CopyFrom(unsigned(model, every=True))
    refit(after)
    off_middle(after)
    assert count[0] < 15 * len(model.graph.node)

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Precision
from regiolect.errors import PrecisionOverflow, UnsupportedOperator
from regiolect.graphs import protos
from regiolect.graphs.half import halved
from regiolect.graphs.scan import scan


def typed(model, wide=()):
    graph = halved(protos.normalized(model), wide)
    return graph, protos.tensor_types(protos.check(graph).graph)


def kinds(graph):
    """Operator types of the nodes, in order."""
    return [node.op_type for node in graph.graph.node]


def close(run, model, graph, x, tolerance=2e-3):
    reference, found = run(model, {"x": x}), run(graph, {"x": x})
    for name, value in reference.items():
        assert found[name].dtype == value.dtype
        np.testing.assert_allclose(found[name], value, rtol=tolerance, atol=tolerance)


def test_everything_inside_is_float16_and_the_border_float32(residual_net, images, run):
    model = residual_net()
    graph, types = typed(model)
    border = {value.name for value in (*graph.graph.input, *graph.graph.output)}
    assert {types[name] for name in border} == {TensorProto.FLOAT}
    assert {kind for name, kind in types.items() if name not in border} == {TensorProto.FLOAT16}
    assert scan(graph) == {Precision.FP32: 0, Precision.FP16: 7, Precision.INT8: 0}
    close(run, model, graph, images)


def test_tensorrt_accepts_it(residual_net, trt_plan_size):
    graph, _ = typed(residual_net())
    assert trt_plan_size(protos.to_bytes(graph), (3, 16, 16)) > 0


@pytest.mark.parametrize("largest", [65505.0, -1e9])
def test_a_constant_beyond_the_range_is_an_error_and_not_clipped(make_model, largest):
    weights = {"k": np.asarray([1.0, largest, 2.0], np.float32)}
    model = make_model([helper.make_node("Mul", ["x", "k"], ["y"])], {"x": ["batch", 3]}, {"y": ["batch", 3]}, weights)
    with pytest.raises(PrecisionOverflow, match=r"'k', which Mul 'node_0' reads, and 1 such values"):
        typed(model)


def test_a_constant_node_beyond_the_range_is_an_error(make_model):
    model = make_model(
        [helper.make_node("Constant", [], ["k"], value_float=-3e38), helper.make_node("Add", ["x", "k"], ["y"])],
        {"x": ["batch", 3]},
        {"y": ["batch", 3]},
        {},
    )
    with pytest.raises(PrecisionOverflow, match="3e"):
        typed(model)


def test_infinities_and_the_largest_value_stay_what_they_are(make_model, run):
    values = np.asarray([-np.inf, np.inf, 65504.0], np.float32)
    model = make_model([helper.make_node("Add", ["x", "k"], ["y"])], {"x": [3]}, {"y": [3]}, {"k": values})
    graph, _ = typed(model)
    np.testing.assert_array_equal(run(graph, {"x": np.zeros(3, np.float32)})["y"], values)


def test_constants_casts_and_operators_that_stay_float32_fit_together(make_model, run):
    scales = numpy_helper.from_array(np.asarray([1, 1, 2, 2], np.float32))
    nodes = [
        helper.make_node("Constant", [], ["half_"], value_float=0.5),
        helper.make_node("Constant", [], ["row"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        helper.make_node("Mul", ["x", "half_"], ["scaled"]),
        helper.make_node("Cast", ["scaled"], ["whole"], to=TensorProto.INT32),
        helper.make_node("Cast", ["whole"], ["back"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["back", "row"], ["shifted"]),
        helper.make_node("Max", ["shifted", "half_"], ["floored"]),
        helper.make_node("Constant", [], ["scales"], value=scales),
        helper.make_node("Resize", ["floored", "", "scales"], ["y"], mode="nearest"),
    ]
    model = make_model(nodes, {"x": ["batch", 1, 4, 4]}, {"y": ["batch", 1, 8, 8]}, {})
    graph, _ = typed(model)
    x = np.random.default_rng(0).uniform(1, 9, size=(2, 1, 4, 4)).astype(np.float32)
    close(run, model, graph, x, tolerance=1e-2)
    assert scan(graph) == {Precision.FP32: 0, Precision.FP16: 4, Precision.INT8: 0}


def test_an_output_that_is_also_read_inside(make_model, run):
    model = make_model(
        [helper.make_node("Relu", ["x"], ["seen"]), helper.make_node("Exp", ["seen"], ["y"])],
        {"x": ["batch", 3]},
        {"seen": ["batch", 3], "y": ["batch", 3]},
        {},
    )
    graph, _ = typed(model)
    assert [value.name for value in graph.graph.output] == ["seen", "y"]
    close(run, model, graph, np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32))


def test_control_flow_and_operators_of_other_domains_are_refused_by_name(make_model):
    branch = helper.make_graph(
        [helper.make_node("Exp", ["h"], ["inner"])],
        "branch",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, None)],
    )
    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, {"yes": np.asarray(True)})
    with pytest.raises(UnsupportedOperator, match=r"found If 'node_1'\. Remedy: replace branches by torch\.where"):
        typed(model)
    foreign = make_model(
        [helper.make_node("Gelu", ["x"], ["y"], domain="com.microsoft")], {"x": ["batch", 3]}, {"y": ["batch", 3]}, {}
    )
    foreign.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(UnsupportedOperator, match=r"com\.microsoft\.Gelu 'node_0'"):
        typed(foreign)


def test_old_files_that_list_weights_as_inputs_are_converted(make_model, run):
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["batch", 3], "w": [3, 2]},
        {"y": ["batch", 2]},
        {"w": np.ones((3, 2), np.float32)},
    )
    model.ir_version = 3
    graph, types = typed(model)
    assert [value.name for value in graph.graph.input] == ["x"]
    assert types["w"] == TensorProto.FLOAT16
    close(run, model, graph, np.ones((2, 3), np.float32))


# ------------------------------------------------------------------------------------------- what stays float32


def test_a_wide_operator_stays_float32_with_its_weights(residual_net, images, run, trt_plan_size):
    model = residual_net()
    graph, types = typed(model, {"conv2"})
    assert {types[name] for name in ("w2", "b2", "conv2")} == {TensorProto.FLOAT}
    assert {types[name] for name in ("w1", "b1", "conv1", "relu1", "w3")} == {TensorProto.FLOAT16}
    assert kinds(graph).count("Cast") == 4, "in and out of the graph, in and out of the operator"
    assert scan(graph) == {Precision.FP32: 1, Precision.FP16: 6, Precision.INT8: 0}
    close(run, model, graph, images)
    assert trt_plan_size(protos.to_bytes(graph), (3, 16, 16)) > 0


def test_operators_are_told_apart_though_their_nodes_share_a_name(residual_net):
    model = residual_net()
    for node in model.graph.node:
        node.name = "same"
    _, types = typed(model, {"conv2"})
    assert types["conv2"] == TensorProto.FLOAT and types["conv1"] == TensorProto.FLOAT16


def test_what_passes_between_two_wide_operators_is_never_float16(make_model, run_as_typed):
    """A million would be infinite on the way."""
    nodes = [
        helper.make_node("Mul", ["x", "large"], ["high"]),
        helper.make_node("Add", ["high", "one"], ["higher"]),
        helper.make_node("Div", ["higher", "large"], ["low"]),
        helper.make_node("Tanh", ["low"], ["y"]),
    ]
    weights = {"large": np.float32(1e6), "one": np.float32(1)}
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, weights)
    graph, _ = typed(model, {"high", "higher", "low"})
    x = np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32)
    assert kinds(graph) == ["Mul", "Add", "Div", "Cast", "Tanh", "Cast"]
    np.testing.assert_allclose(run_as_typed(graph, {"x": x}), np.tanh(x), atol=1e-3)


def test_a_wide_operator_at_either_end_reads_and_writes_the_border_itself(make_model, run_as_typed):
    nodes = [
        helper.make_node("Sqrt", ["x"], ["root"]),
        helper.make_node("Neg", ["root"], ["negative"]),
        helper.make_node("Mul", ["negative", "negative"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, {})
    graph, _ = typed(model, {"root", "y"})
    x = np.full((2, 3), 1e6, np.float32)
    assert kinds(graph) == ["Sqrt", "Cast", "Neg", "Cast", "Mul"]
    np.testing.assert_allclose(run_as_typed(graph, {"x": x}), x, rtol=2e-3)


def test_a_constant_that_both_kinds_read_is_there_in_both_types(make_model, run):
    third = np.asarray([1 / 3], np.float32)
    for held in (False, True):
        nodes = [helper.make_node("Mul", ["x", "k"], ["wide"]), helper.make_node("Add", ["wide", "k"], ["y"])]
        if held:
            nodes.insert(0, helper.make_node("Constant", [], ["k"], value=numpy_helper.from_array(third)))
        model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, {} if held else {"k": third})
        graph, _ = typed(model, {"wide"})
        constants = {tensor.data_type: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}
        assert constants[TensorProto.FLOAT] == third and constants[TensorProto.FLOAT16] == third.astype(np.float16)
        close(run, model, graph, np.ones((2, 3), np.float32))


def test_a_constant_too_near_to_zero_becomes_the_smallest_there_is(make_model, run):
    weights = {"epsilon": np.asarray([1e-12, -1e-12, 0], np.float32)}
    model = make_model([helper.make_node("Add", ["x", "epsilon"], ["y"])], {"x": [3]}, {"y": [3]}, weights)
    graph, _ = typed(model)
    found = run(graph, {"x": np.zeros(3, np.float32)})["y"]
    np.testing.assert_allclose(found, [2**-24, -(2**-24), 0])


def test_an_operator_without_float16_in_onnx_and_an_input_without_it_stay_float32(make_model, run):
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["top"], keepdims=0),
        helper.make_node("Range", ["zero", "top", "one"], ["steps"]),
        helper.make_node("Mul", ["steps", "one"], ["y"]),
    ]
    model = make_model(nodes, {"x": [4]}, {"y": ["n"]}, {"zero": np.float32(0), "one": np.float32(1)})
    graph, types = typed(model)
    assert types["steps"] == TensorProto.FLOAT
    close(run, model, graph, np.asarray([1, 5, 2, 3], np.float32))


def test_an_operator_that_onnx_defines_for_float32_alone_stays_so(make_model, run):
    """MeanVarianceNormalization is said to take float16, and such a graph failed ONNX's check."""
    nodes = [
        helper.make_node("Relu", ["x"], ["r"]),
        helper.make_node("MeanVarianceNormalization", ["r"], ["m"], axes=[2, 3]),
        helper.make_node("Sigmoid", ["m"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["n", 2, 4, 4]}, {"y": ["n", 2, 4, 4]}, {})
    graph, types = typed(model)
    assert types["m"] == TensorProto.FLOAT
    assert types["r"] == TensorProto.FLOAT16
    close(run, model, graph, np.random.default_rng(8).normal(size=(3, 2, 4, 4)).astype(np.float32))


def test_a_group_norm_and_what_is_behind_it_become_float16(make_model, run):
    """ONNX tells no shape there."""
    nodes = [
        helper.make_node("GroupNormalization", ["x", "g", "b"], ["normal"], num_groups=2),
        helper.make_node("Sigmoid", ["normal"], ["y"]),
    ]
    held = {"g": np.ones(4, np.float32), "b": np.zeros(4, np.float32)}
    model = make_model(nodes, {"x": ["n", 4, 3, 3]}, {"y": ["n", 4, 3, 3]}, held, 21)
    model.ir_version = 10
    graph, types = typed(model)
    assert types["normal"] == TensorProto.FLOAT16
    close(run, model, graph, np.random.default_rng(8).normal(size=(3, 4, 3, 3)).astype(np.float32))


def test_asking_for_a_shape_costs_no_cast(make_model, run):
    nodes = [
        helper.make_node("Exp", ["x"], ["high"]),
        helper.make_node("Shape", ["high"], ["shape"]),
        helper.make_node("Reshape", ["high", "shape"], ["back"]),
        helper.make_node("Log", ["back"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, {})
    graph, _ = typed(model, {"high", "back", "y"})
    assert "Cast" not in kinds(graph)
    close(run, model, graph, np.full((2, 3), 20, np.float32))

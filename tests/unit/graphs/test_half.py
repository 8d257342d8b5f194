from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Precision
from regiolect.errors import PrecisionOverflow
from regiolect.graphs import protos
from regiolect.graphs.half import halved
from regiolect.graphs.scan import scan


def typed(model):
    graph = halved(protos.normalized(model))
    return graph, protos.tensor_types(protos.check(graph).graph)


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
    with pytest.raises(PrecisionOverflow, match=r"'k', and 1 such values"):
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
    # The library keeps Max in float32 between Casts: wider than asked for, and the scan says so.
    assert scan(graph) == {Precision.FP32: 1, Precision.FP16: 3, Precision.INT8: 0}


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


def test_branches_are_float16_too(make_model, run):
    def branch(kind):
        node = helper.make_node(kind, ["h"], [f"inner_{kind}"], name=kind)
        return helper.make_graph(
            [node], kind, [], [helper.make_tensor_value_info(f"inner_{kind}", TensorProto.FLOAT, None)]
        )

    nodes = [
        helper.make_node("Tanh", ["x"], ["h"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=branch("Exp"), else_branch=branch("Neg")),
        helper.make_node("Relu", ["chosen"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, {"yes": np.asarray(True)})
    graph, _ = typed(model)
    assert scan(graph) == {Precision.FP32: 0, Precision.FP16: 4, Precision.INT8: 0}
    close(run, model, graph, np.random.default_rng(0).normal(size=(2, 3)).astype(np.float32))


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

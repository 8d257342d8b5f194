from __future__ import annotations

import numpy as np
import pytest
from onnx import helper

from regiolect.contracts import Precision, TensorRange
from regiolect.errors import MissingThreshold, UnsupportedOperator
from regiolect.graphs import half, protos
from regiolect.graphs.overflow import kept_wide
from regiolect.graphs.scan import scan


def seen(model, ranges_of, x):
    plain = protos.normalized(model)
    return plain, ranges_of(plain, {"x": x})


def one(make_model, node, x, ranges_of, outputs, weights=None, opset=20):
    model = make_model([node], {"x": list(x.shape)}, {"y": outputs}, weights or {}, opset)
    return kept_wide(*seen(model, ranges_of, x))


def test_what_comes_near_the_limit_stays_float32_and_the_answer_survives(make_model, ranges_of, run_as_typed):
    """x reaches 300, its square 90,000: float16 would say infinity."""
    nodes = [
        helper.make_node("Relu", ["x"], ["positive"]),
        helper.make_node("Mul", ["positive", "positive"], ["square"]),
        helper.make_node("ReduceMean", ["square", "last"], ["mean"], keepdims=1),
        helper.make_node("Sqrt", ["mean"], ["root"]),
        helper.make_node("Div", ["positive", "root"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 8]}, {"y": ["batch", 8]}, {"last": np.asarray([-1])})
    x = np.random.default_rng(0).uniform(100, 300, (4, 8)).astype(np.float32)
    plain, ranges = seen(model, ranges_of, x)
    reference = run_as_typed(model, {"x": x})
    assert np.all(run_as_typed(half.halved(plain), {"x": x}) == 0), "a division by infinity"

    wide = kept_wide(plain, ranges)
    graph = half.halved(plain, wide)
    assert wide == ("square", "mean", "root")
    assert scan(graph) == {Precision.FP32: 3, Precision.FP16: 2, Precision.INT8: 0}
    np.testing.assert_allclose(run_as_typed(graph, {"x": x}), reference, rtol=3e-3)


def test_a_margin_of_two_is_kept_for_what_was_not_seen(make_model, ranges_of):
    node = helper.make_node("Relu", ["x"], ["y"])
    assert one(make_model, node, np.full((2, 3), 32_700, np.float32), ranges_of, [2, 3]) == ()
    assert one(make_model, node, np.full((2, 3), 32_800, np.float32), ranges_of, [2, 3]) == ("y",)
    assert one(make_model, node, np.full((2, 3), -32_800, np.float32), ranges_of, [2, 3]) == ("y",)


@pytest.mark.parametrize("largest", [65505.0, -1e9])
def test_the_readers_of_a_constant_beyond_the_range_stay_float32(make_model, ranges_of, run_as_typed, largest):
    weights = {"k": np.asarray([0.0, largest, 0.0], np.float32)}
    nodes = [
        helper.make_node("Add", ["x", "k"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["chances"]),
        helper.make_node("Neg", ["chances"], ["y"]),
    ]
    model = make_model(nodes, {"x": ["batch", 3]}, {"y": ["batch", 3]}, weights)
    x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    plain, ranges = seen(model, ranges_of, x)
    wide = kept_wide(plain, ranges)
    assert wide == ("masked", "chances")
    found = run_as_typed(half.halved(plain, wide), {"x": x})
    np.testing.assert_allclose(found, run_as_typed(model, {"x": x}), atol=1e-3)


IMAGE = np.full((1, 2, 64, 64), 10, np.float32)
ROW = np.full((2, 100), 200, np.float32)


@pytest.mark.parametrize(
    ("node", "x", "outputs", "kept"),
    [
        # 4,096 values of 10 sum up to 40,960 under the mean; of 1 to 4,096.
        (helper.make_node("GlobalAveragePool", ["x"], ["y"]), IMAGE, [1, 2, 1, 1], True),
        (helper.make_node("GlobalAveragePool", ["x"], ["y"]), IMAGE / 10, [1, 2, 1, 1], False),
        (helper.make_node("ReduceMean", ["x", "axes"], ["y"], keepdims=0), IMAGE, [1, 2], True),
        (helper.make_node("ReduceMean", ["x", "last"], ["y"], keepdims=0), IMAGE, [1, 2, 64], False),
        (helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0), IMAGE, [], True),
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[64, 64]), IMAGE, [1, 2, 1, 1], True),
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, 2]), IMAGE, [1, 2, 63, 63], False),
        (helper.make_node("InstanceNormalization", ["x", "s", "s"], ["y"]), IMAGE, [1, 2, 64, 64], True),
        # A norm of 2,000 comes from a sum of squares of 4 million.
        (helper.make_node("ReduceL2", ["x", "last"], ["y"], keepdims=0), ROW, [2], True),
        (helper.make_node("ReduceL2", ["x", "last"], ["y"], keepdims=0), ROW / 100, [2], False),
        (helper.make_node("ReduceLogSumExp", ["x", "last"], ["y"], keepdims=0), ROW, [2], True),
        (helper.make_node("Softplus", ["x"], ["y"]), ROW, [2, 100], True),
        (helper.make_node("LayerNormalization", ["x", "scale"], ["y"]), ROW, [2, 100], False),
        (helper.make_node("Softmax", ["x"], ["y"]), ROW, [2, 100], False),
        (helper.make_node("Sigmoid", ["x"], ["y"]), ROW, [2, 100], False),
    ],
    ids=lambda value: value.op_type if hasattr(value, "op_type") else "",
)
def test_what_overflows_inside_stays_float32_though_both_ends_fit(make_model, ranges_of, node, x, outputs, kept):
    weights = {
        "axes": np.asarray([2, 3]),
        "last": np.asarray([-1]),
        "s": np.ones(2, np.float32),
        "scale": np.ones(100, np.float32),
    }
    used = {name: value for name, value in weights.items() if name in node.input}
    assert one(make_model, node, x, ranges_of, outputs, used) == (("y",) if kept else ())


def test_a_sum_over_an_unknown_extent_stays_float32(make_model, ranges_of):
    model = make_model(
        [helper.make_node("GlobalAveragePool", ["x"], ["y"])], {"x": ["n", 2, 4, "width"]}, {"y": ["n", 2, 1, 1]}, {}
    )
    assert kept_wide(*seen(model, ranges_of, np.ones((1, 2, 4, 4), np.float32))) == ("y",)


def test_a_tensor_without_a_range_is_an_error(residual_net, images, ranges_of):
    plain, ranges = seen(residual_net(), ranges_of, images)
    assert kept_wide(plain, ranges) == ()
    for name in ("x", "pooled"):
        with pytest.raises(MissingThreshold, match=f"tensor '{name}'"):
            kept_wide(plain, {key: value for key, value in ranges.items() if key != name})


def test_the_threshold_of_a_method_that_clips_hides_no_value(make_model):
    model = protos.normalized(make_model([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, {"y": [3]}, {}))
    high = TensorRange(threshold=1, minimum=0, maximum=60_000)
    assert kept_wide(model, {"x": high, "y": high}) == ("y",)


def test_control_flow_is_refused(make_model):
    branch = helper.make_graph(
        [helper.make_node("Exp", ["x"], ["inner"])], "branch", [], [helper.make_tensor_value_info("inner", 1, None)]
    )
    node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
    model = make_model([node], {"x": [3]}, {"y": [3]}, {"yes": np.asarray(True)})
    with pytest.raises(UnsupportedOperator, match="If"):
        kept_wide(protos.normalized(model), {})

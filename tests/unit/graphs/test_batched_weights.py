"""Weights of a MatMul that are batches of matrices, one for each head for example."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend
from regiolect.graphs import protos
from regiolect.graphs.quantize import quantizable, quantized
from tests.contract.networks import CPU_BACKENDS

X = np.random.default_rng(0).uniform(-1, 1, (2, 4, 16, 8)).astype(np.float32)
SHAPES = [(4, 8, 6), (1, 8, 6), (1, 4, 8, 6), (1, 1, 8, 6)]
pytestmark = pytest.mark.arithmetic


def scales(model):
    """Scales of the weight, the one constant that is dequantized."""
    held = protos.constants(model.graph)
    (found,) = (node for node in model.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in held)
    return numpy_helper.to_array(held[found.input[1]])


def is_near(found, right):
    return np.abs(found - right).max() < 0.02 * np.abs(right).max()


@pytest.mark.parametrize("name", CPU_BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_batch_of_matrices_has_one_scale_and_runs(make_model, ranges_of, run, shape, name):
    """With a scale for each column every run of ONNX Runtime failed, and OpenVINO with AMX computed the first alone."""
    weight = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    model = make_model(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"x": ["batch", 4, 16, 8]},
        {"y": ["batch", 4, 16, 6]},
        {"w": weight},
    )
    recipe = backend(name).recipe_here(Precision.INT8)
    graph = quantized(model, recipe, ranges_of(model, {"x": X}))
    assert scales(graph).shape == () and quantizable(model, recipe) == ("y",)
    assert is_near(run(graph, {"x": X})["y"], run(model, {"x": X})["y"])


@pytest.mark.parametrize("name", CPU_BACKENDS)
def test_one_that_arrives_with_scales_of_columns_is_quantized_anew(make_model, ranges_of, run, name):
    steps = np.random.default_rng(1).integers(-127, 128, (1, 4, 8, 6)).astype(np.int8)
    held = {"w": steps, "s": np.linspace(0.01, 0.02, 6).astype(np.float32)}
    model = make_model(
        [
            helper.make_node("DequantizeLinear", ["w", "s"], ["d"], axis=3),
            helper.make_node("MatMul", ["x", "d"], ["y"]),
        ],
        {"x": ["batch", 4, 16, 8]},
        {"y": ["batch", 4, 16, 6]},
        held,
    )
    graph = quantized(model, backend(name).recipe_here(Precision.INT8), ranges_of(model, {"x": X}))
    assert scales(graph).shape == ()
    assert is_near(run(graph, {"x": X})["y"], run(model, {"x": X})["y"])

"""The full check: what it refuses, and that large weights neither escape it nor are lost by it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from regiolect.errors import InvalidOnnx
from regiolect.graphs.protos import check


def product(rows: int = 64, declared: int | None = None) -> ModelProto:
    """x (n, rows) times a weight that is large enough to be left out of ONNX's own serializations."""
    weight = numpy_helper.from_array(np.ones((declared or rows, 32), np.float32), "w")
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["y"], name="product"),
            helper.make_node("Reshape", ["y", "shape"], ["z"], name="reshape"),
        ],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", rows])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["m", 4, 8])],
        [weight, numpy_helper.from_array(np.asarray([-1, 4, 8], np.int64), "shape")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def test_the_inferred_model_is_what_onnx_itself_infers_weights_included():
    model = product()
    whole = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert check(model).SerializeToString(deterministic=True) == whole.SerializeToString(deterministic=True)
    assert [tensor.name for tensor in model.graph.initializer] == ["w", "shape"], "the argument is left as it was"


def test_a_large_weight_of_the_wrong_shape_is_refused():
    with pytest.raises(InvalidOnnx, match="product"):
        check(product(declared=63))


def test_a_large_weight_with_too_few_values_is_refused():
    model = product()
    model.graph.initializer[0].raw_data = model.graph.initializer[0].raw_data[:-4]
    with pytest.raises(InvalidOnnx):
        check(model)

"""The graphs of a model so small that an engine of it is built in a moment."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def dense(weights: NDArray[np.float32]) -> bytes:
    """`image` (batch, 1, 4, 4) times `weights` (16, 3) gives `logits`."""
    return _graph(
        [
            helper.make_node("Flatten", ["image"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], ["logits"], name="dense"),
        ],
        ["batch", 1, 4, 4],
        weights,
    )


def averaged(weights: NDArray[np.float32]) -> bytes:
    """The mean of an `image` of any width, (batch, 1, 4, width), times `weights` (1, 3) gives `logits`."""
    return _graph(
        [
            helper.make_node("GlobalAveragePool", ["image"], ["mean"], name="pool"),
            helper.make_node("Flatten", ["mean"], ["flat"], name="flatten"),
            helper.make_node("MatMul", ["flat", "w"], ["logits"], name="dense"),
        ],
        ["batch", 1, 4, "width"],
        weights,
    )


def _graph(nodes: list[Any], shape: list[int | str], weights: NDArray[np.float32]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    content: bytes = model.SerializeToString()
    return content

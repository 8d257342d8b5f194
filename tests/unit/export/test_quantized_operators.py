"""A file whose operators hold their quantization is exported as Q/DQ nodes, and stays equal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from regiolect.contracts import Preprocessing, TensorSpec
from regiolect.data import Samples
from regiolect.export import export_model
from regiolect.model import ModelSpec
from regiolect.storage import LocalStore

RNG = np.random.default_rng(3)


def product() -> onnx.ModelProto:
    """One quantized product whose sums would leave int16 two at a time."""
    constants = {
        "xs": np.float32(0.02),
        "xz": np.uint8(0),
        "w": RNG.integers(100, 128, (16, 4)).astype(np.int8),
        "ws": np.float32(0.01),
        "wz": np.int8(0),
        "ys": np.float32(0.4),
        "yz": np.uint8(0),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["q"]),
        helper.make_node("QLinearMatMul", ["q", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["a"], name="product"),
        helper.make_node("DequantizeLinear", ["a", "ys", "yz"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "quantized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def original() -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "original",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(np.ones((16, 4), np.float32), "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


def test_its_parity_is_that_of_exact_sums(
    make_spec: Callable[..., ModelSpec], tmp_path: Path, store: LocalStore
) -> None:
    for name, model in (("model", product()), ("original", original())):
        onnx.save(model, tmp_path / f"{name}.onnx")
    inputs = RNG.uniform(3, 5, (20, 16)).astype(np.float32)
    ids = np.asarray([f"s{index}" for index in range(20)])
    samples = Samples(ids=ids, regions=np.full(20, "eu"), inputs={"x": inputs}, targets=np.zeros(20))
    spec = make_spec(
        tmp_path / "model.onnx",
        reference=tmp_path / "original.onnx",
        inputs=(TensorSpec(name="x", shape=("batch", 16)),),
        outputs=("y",),
        preprocessing=Preprocessing(),
    )
    exported = export_model(spec, store, samples)
    graph = onnx.load(store.path_of(exported.graph)).graph
    assert [node.op_type for node in graph.node if "Linear" not in node.op_type] == ["MatMul"]
    assert exported.parity is not None
    assert exported.parity.worst_error == 0

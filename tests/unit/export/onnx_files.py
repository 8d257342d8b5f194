"""A network as others hand it in: in an .onnx file with traces of its exporter."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from regiolect.data import Samples

RNG = np.random.default_rng(5)
WEIGHT = RNG.normal(size=(4, 2, 3, 3)).astype(np.float32)
HEAD = RNG.normal(size=(4 * 36, 3)).astype(np.float32)
NORM = {"gamma": RNG.random(4), "beta": RNG.random(4), "mean": RNG.random(4), "var": RNG.random(4) + 0.5}


def conv_net(batch: int | str = "n", *, target: int = -1, opset: int = 20, extra: tuple[Any, ...] = ()) -> Any:
    """Conv, batch norm, Relu, Reshape to (target, 144) with a constant, MatMul. Traces of an exporter included."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1], doc_string="/home/someone/net.py, line 7"),
        node("BatchNormalization", ["c", *NORM], ["b"], name="norm"),
        node("Relu", ["b"], ["r"], name="relu"),
        node("Reshape", ["r", "shape"], ["f"], name="flat"),
        node("MatMul", ["f", "h"], ["m"], name="head"),
        *(extra or (node("Identity", ["m"], ["y"], name="out"),)),
    ]
    weights = {"w": WEIGHT, "h": HEAD, "shape": np.asarray([target, 144]), **NORM}
    initializers = [
        numpy_helper.from_array(value.astype(np.float32) if name in NORM else value, name)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3])],
        initializers,
    )
    imports = [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, producer_version="/home/someone/venv")
    helper.set_model_props(model, {"source": "/home/someone/net.py"})
    return model


def outputs(model: bytes | str, images: Any) -> Any:
    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(["y"], {"x": images})[0]


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def samples_of_conv_net() -> Samples:
    images = np.random.default_rng(1).normal(size=(20, 2, 6, 6)).astype(np.float32)
    ids = np.asarray([f"s{index}" for index in range(20)])
    return Samples(ids=ids, regions=np.full(20, "eu"), inputs={"x": images}, targets=np.zeros(20))

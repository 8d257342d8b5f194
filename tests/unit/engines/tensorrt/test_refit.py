"""Which graphs share a structure, so that a plan may be refitted from one to the other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper

from regiolect.engines.tensorrt.refit import structure


def graph(
    weight: NDArray[np.generic], scale: float = 0.5, bound: int = 3, operator: str = "Relu", quantized: bool = False
) -> bytes:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node(operator, ["m"], ["r"])]
    nodes.append(helper.make_node("Reshape", ["r", "shape"], ["y"]))
    constants = {"w": weight, "shape": np.array([-1, bound], np.int64)}
    if quantized:
        nodes.insert(0, helper.make_node("DequantizeLinear", ["q", "s"], ["w"]))
        constants = {"q": weight, "s": np.float32(scale), "shape": constants["shape"]}
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", bound])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model: ModelProto = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)])
    return model.SerializeToString()


ONES, TWOS = np.ones((4, 3), np.float32), np.full((4, 3), 2, np.float32)


def test_weights_alone_do_not_change_the_structure() -> None:
    assert structure(graph(ONES)) == structure(graph(TWOS))


def test_anything_else_does() -> None:
    others = [
        graph(ONES.astype(np.float16)),
        graph(np.ones((4, 6), np.float32)),
        graph(ONES, bound=1),
        graph(ONES, operator="Tanh"),
    ]
    assert len({structure(each) for each in [graph(ONES), *others]}) == 5


def test_scales_and_quantized_weights_are_part_of_the_structure() -> None:
    quantized = [graph(ONES.astype(np.int8), quantized=True), graph(TWOS.astype(np.int8), quantized=True)]
    quantized.append(graph(ONES.astype(np.int8), scale=0.25, quantized=True))
    assert len({structure(each) for each in quantized}) == 3

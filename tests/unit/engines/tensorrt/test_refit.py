"""Which graphs share a structure, so that a plan may be refitted from one to the other."""

from __future__ import annotations

import numpy as np
import pytest
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


def taken(operator: str, place: int, value: float, size: int = 3, after: str = "") -> bytes:
    """A graph of one node that takes a constant at `place`, on the input or on what `after` makes of it."""
    inputs = ["x", *(f"in{number}" for number in range(1, place))]
    inputs.insert(place, "constant")
    nodes = [helper.make_node(operator, inputs, ["y"])]
    if after:
        nodes = [
            helper.make_node(after, ["x", "w"], ["p"]),
            helper.make_node(operator, ["p" if name == "x" else name for name in inputs], ["y"]),
        ]
    made = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [
            numpy_helper.from_array(np.full(size, value, np.float32), "constant"),
            numpy_helper.from_array(ONES, "w"),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()


@pytest.mark.parametrize(
    ("operator", "place", "after"),
    [
        ("Conv", 1, ""),
        ("Conv", 2, ""),
        ("Gemm", 2, ""),
        ("BatchNormalization", 3, ""),
        ("PRelu", 1, ""),
        ("MatMul", 1, ""),
        ("Add", 1, "MatMul"),
    ],
)
def test_weights_biases_slopes_and_statistics_may_be_refitted(operator: str, place: int, after: str) -> None:
    assert structure(taken(operator, place, 1.0, after=after)) == structure(taken(operator, place, 2.0, after=after))


@pytest.mark.parametrize(
    ("operator", "place", "after"),
    [
        ("Clip", 1, ""),
        ("Clip", 2, ""),
        ("Resize", 2, ""),
        ("Pad", 2, ""),
        ("Add", 1, ""),
        ("Mul", 1, "MatMul"),
        ("Pow", 1, ""),
        ("Conv", 0, ""),
    ],
)
def test_a_number_that_is_no_weight_is_part_of_the_structure(operator: str, place: int, after: str) -> None:
    """It is read when the graph is parsed: a plan that was refitted would keep the old one, and answer."""
    assert structure(taken(operator, place, 1.0, after=after)) != structure(taken(operator, place, 2.0, after=after))


def test_a_tensor_that_is_a_weight_here_and_a_number_there_counts_with_its_value() -> None:
    def both(value: float) -> bytes:
        made = helper.make_graph(
            [helper.make_node("MatMul", ["x", "w"], ["m"]), helper.make_node("Mul", ["m", "w"], ["y"])],
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, None)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
            [numpy_helper.from_array(np.full((3, 3), value, np.float32), "w")],
        )
        return helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()

    assert structure(both(1.0)) != structure(both(2.0))

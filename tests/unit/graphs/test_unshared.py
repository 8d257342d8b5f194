"""Int8 weights with several readers, in sessions that sum exactly where 8 x 8 bits saturate."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.engines.onnxruntime import session
from regiolect.graphs.protos import constants
from regiolect.graphs.unshared import unshared

RNG = np.random.default_rng(0)
DEQUANTIZE, QUANTIZE = "DequantizeLinear", "QuantizeLinear"


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI: ONNX Runtime rewrites int8 weights there, and with this entry on any x86."""
    monkeypatch.setattr(session, "EXACT", dict.fromkeys(session.EXACT, "1"))


def network(first: tuple[str, ...], second: tuple[str, ...] | None, *outputs: str) -> ModelProto:
    """Two products in a row.

    Args:
        first: weight, scale and zero point of the first one.
        second: those of the second; None: it reads what the first one's DequantizeLinear made.
        outputs: beside the answer.
    """
    node = helper.make_node
    nodes = [
        node(QUANTIZE, ["x", "s", "z"], ["q"]),
        node(DEQUANTIZE, ["q", "s", "z"], ["d"]),
        node(DEQUANTIZE, first, ["one"]),
        *([node(DEQUANTIZE, second, ["two"])] if second is not None else []),
        node("MatMul", ["d", "one"], ["a"]),
        node(QUANTIZE, ["a", "s", "z"], ["aq"]),
        node(DEQUANTIZE, ["aq", "s", "z"], ["ad"]),
        node("MatMul", ["ad", "one" if second is None else "two"], ["b"]),
        node(QUANTIZE, ["b", "s", "z"], ["bq"]),
        node(DEQUANTIZE, ["bq", "s", "z"], ["y"]),
    ]
    given = {
        "s": np.float32(0.02),
        "z": np.uint8(128),
        "w": RNG.integers(-127, 128, (16, 16)).astype(np.int8),
        "v": RNG.integers(-127, 128, (16, 16)).astype(np.int8),
        "ws": np.float32(0.004),
        "wz": np.int8(0),
        "vz": np.int8(3),
    }
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", *outputs)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


SHARED = {
    "a zero point": lambda: network(("w", "ws", "wz"), ("v", "ws", "wz")),
    "a weight": lambda: network(("w", "ws", "wz"), ("w", "ws", "vz")),
    "a weight without a zero point": lambda: network(("w", "ws"), ("w", "ws")),
    "a dequantized weight": lambda: network(("w", "ws", "wz"), None),
    "a dequantized weight that is told": lambda: network(("w", "ws", "wz"), ("v", "ws", "vz"), "one"),
}


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("case", SHARED)
def test_what_is_shared_is_opened_and_summed_exactly(case: str) -> None:
    model = SHARED[case]()
    x = RNG.normal(0, 1, (4, 16)).astype(np.float32)
    names = [output.name for output in model.graph.output]
    found = session.open_graph(model.SerializeToString(), session.session_options()).run(names, {"x": x})
    for name, value, right in zip(names, found, ReferenceEvaluator(model).run(names, {"x": x}), strict=True):
        # A step, where a sum is halfway between two.
        assert np.abs(value - np.asarray(right)).max() <= (0.021 if name == "y" else 0), name


@pytest.mark.parametrize("case", SHARED)
def test_no_int8_constant_has_a_second_reader_afterwards(case: str) -> None:
    found = unshared(SHARED[case]())
    weights = {name for name, each in constants(found.graph).items() if each.data_type == TensorProto.INT8}
    uses = Counter(name for node in found.graph.node for name in node.input if name in weights)
    assert set(uses.values()) == {1}
    assert unshared(found) is found


def test_a_graph_in_which_nothing_is_shared_is_itself() -> None:
    model = network(("w", "ws", "wz"), ("v", "ws", "vz"))
    assert unshared(model) is model


@pytest.mark.usefixtures("exact")
def test_products_of_integers_with_one_weight_are_opened_and_summed_exactly() -> None:
    node = helper.make_node
    nodes = [
        node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
        node("MatMulInteger", ["q", "w", "z", "wz"], ["a"]),
        node("Cast", ["a"], ["f"], to=TensorProto.FLOAT),
        node("DynamicQuantizeLinear", ["f"], ["fq", "fs", "fz"]),
        node("MatMulInteger", ["fq", "w", "fz", "wz"], ["b"]),
        node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = {"w": RNG.integers(-127, 128, (16, 16)).astype(np.int8), "wz": np.int8(0)}
    graph = helper.make_graph(
        nodes,
        "integers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    x = RNG.normal(0, 1, (4, 16)).astype(np.float32)
    (found,) = session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": x})
    (right,) = ReferenceEvaluator(model).run(None, {"x": x})
    np.testing.assert_allclose(found, right, rtol=0.02, atol=np.abs(right).max() * 0.01)


def test_a_file_that_is_no_graph_is_left_to_onnx_runtime(exact: None) -> None:
    with pytest.raises(session.ERRORS):
        session.open_graph(b"no graph", session.session_options())

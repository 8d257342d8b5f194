"""Int8 weights with several readers, in sessions that sum exactly where 8 x 8 bits saturate."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from regiolect.engines.onnxruntime import session
from regiolect.errors import InvalidOnnx
from regiolect.graphs.protos import constants
from regiolect.graphs.unshared import unshared

RNG = np.random.default_rng(0)
DEQUANTIZE, QUANTIZE = "DequantizeLinear", "QuantizeLinear"


@pytest.fixture
def exact(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor without VNNI: ONNX Runtime rewrites int8 weights there, and with this entry on any x86."""
    monkeypatch.setattr(session, "EXACT", dict.fromkeys(session.EXACT, "1"))


def network(
    first: tuple[str, ...],
    second: tuple[str, ...] | None,
    *outputs: str,
    before: Sequence[NodeProto] = (),
    opset: int = 20,
) -> ModelProto:
    """Two products in a row.

    Args:
        first: weight, scale and zero point of the first one.
        second: those of the second; None: it reads what the first one's DequantizeLinear made.
        outputs: beside the answer.
        before: nodes that make their weights.
    """
    node = helper.make_node
    nodes = [
        *before,
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
        "fw": RNG.normal(0, 0.2, (16, 16)).astype(np.float32),
        "fv": RNG.normal(0, 0.2, (16, 16)).astype(np.float32),
        "square": np.array([16, 16]),
        "unit": np.float32(1),
        "nought": np.float32(0),
    }
    read = {name for each in nodes for name in each.input}
    graph = helper.make_graph(
        nodes,
        "shared",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("y", *outputs)],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in given.items() if name in read],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def made(*nodes: tuple[str, list[str], list[str]]) -> list[NodeProto]:
    return [helper.make_node(*each) for each in nodes]


FLOATS = made((QUANTIZE, ["fw", "ws", "wz"], ["wq"]), (QUANTIZE, ["fv", "ws", "wz"], ["vq"]))
TURNED = made(("Transpose", ["w"], ["wq"]), ("Transpose", ["v"], ["vq"]))
ONE_VALUE = helper.make_node(
    "ConstantOfShape", ["square"], ["wq"], value=numpy_helper.from_array(np.array([100], np.int8))
)
SHARED = {
    "a zero point": lambda: network(("w", "ws", "wz"), ("v", "ws", "wz")),
    "a weight": lambda: network(("w", "ws", "wz"), ("w", "ws", "vz")),
    "a weight without a zero point": lambda: network(("w", "ws"), ("w", "ws")),
    "a dequantized weight": lambda: network(("w", "ws", "wz"), None),
    "a dequantized weight that is told": lambda: network(("w", "ws", "wz"), ("v", "ws", "vz"), "one"),
    # Weights and zero points that ONNX Runtime computes by itself before it rewrites them.
    "a zero point of floats": lambda: network(("wq", "ws", "wz"), ("vq", "ws", "wz"), before=FLOATS),
    "a weight of floats": lambda: network(("wq", "ws", "wz"), ("wq", "ws", "vz"), before=FLOATS[:1]),
    "a dequantized weight of floats": lambda: network(("wq", "ws", "wz"), None, before=FLOATS[:1]),
    "a dequantized weight of floats that is told": lambda: network(
        ("wq", "ws", "wz"), ("v", "ws", "vz"), "one", before=FLOATS[:1]
    ),
    "a weight that is quantized twice": lambda: network(
        ("rough", "ws", "wz"),
        ("rough", "ws", "vz"),
        before=made((DEQUANTIZE, ["w", "s", "wz"], ["wide"]), (QUANTIZE, ["wide", "ws", "wz"], ["rough"])),
    ),
    "a zero point of transposed weights": lambda: network(("wq", "ws", "wz"), ("vq", "ws", "wz"), before=TURNED),
    "a zero point through another name": lambda: network(
        ("w", "ws", "z2"), ("v", "ws", "z2"), before=made(("Identity", ["wz"], ["z2"]))
    ),
    "a weight through another name": lambda: network(
        ("w2", "ws", "wz"), ("w2", "ws", "vz"), before=made(("Identity", ["w"], ["w2"]))
    ),
    "a weight of one value": lambda: network(("wq", "ws", "wz"), ("wq", "ws", "vz"), before=[ONE_VALUE]),
    "a dequantized weight through another name": lambda: through(("Identity", ["first"], ["one"])),
    "a dequantized weight times 1": lambda: through(("Mul", ["first", "unit"], ["one"])),
    "1 times a dequantized weight": lambda: through(("Mul", ["unit", "first"], ["one"])),
    "a dequantized weight by 1": lambda: through(("Div", ["first", "unit"], ["one"])),
    "a dequantized weight and 0": lambda: through(("Add", ["first", "nought"], ["one"])),
    "a dequantized weight less 0": lambda: through(("Sub", ["first", "nought"], ["one"])),
    "a dequantized weight that is expanded to its shape": lambda: through(("Expand", ["first", "square"], ["one"])),
    "a dequantized weight that is turned and turned back": lambda: through(
        ("Transpose", ["first"], ["turned"]), ("Transpose", ["turned"], ["one"]), perm=[1, 0]
    ),
}


def through(*nodes: tuple[str, list[str], list[str]], **attributes: Any) -> ModelProto:
    """Both products read `one`, which nodes make of `first`, a dequantized weight."""
    first = helper.make_node(DEQUANTIZE, ["w", "ws", "wz"], ["first"])
    then = [helper.make_node(*each, **attributes) for each in nodes]
    model = network(("w", "ws", "wz"), None, before=[first, *then])
    (place,) = (
        place for place, node in enumerate(model.graph.node) if node.input[0] == "w" and node.output[0] == "one"
    )
    del model.graph.node[place]
    return model


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
    model = network(("wq", "ws", "wz"), ("v", "ws", "vz"), before=FLOATS[:1])
    assert unshared(model) is model


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("opset", [20, 21])
@pytest.mark.parametrize("before", [[], made((DEQUANTIZE, ["v", "columns"], ["more"]))])
def test_scales_of_channels_without_a_zero_point_get_one(before: list[NodeProto], opset: int) -> None:
    """Two weights with one scale too: ONNX Runtime gave them one zero point in all, and failed at every run."""
    node = helper.make_node
    summed = [node("Add", ["wide", "more"], ["y"])] if before else [node("Identity", ["wide"], ["y"])]
    nodes = [*before, node(DEQUANTIZE, ["w", "columns"], ["d"]), node("MatMul", ["x", "d"], ["wide"]), *summed]
    given = {"w": RNG.integers(-127, 128, (16, 16)).astype(np.int8), "columns": np.linspace(0.002, 0.004, 16)}
    given = {**given, "v": given["w"][::-1], "columns": given["columns"].astype(np.float32)}
    graph = helper.make_graph(
        nodes,
        "channels",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [16, 16])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [16, 16])],
        [numpy_helper.from_array(np.ascontiguousarray(value), name) for name, value in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    x = RNG.normal(0, 1, (16, 16)).astype(np.float32)
    (found,) = session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": x})
    (right,) = ReferenceEvaluator(model).run(None, {"x": x})
    # A product of its own quantizes x in eight bits.
    assert np.abs(found - np.asarray(right)).max() < 0.02 * np.abs(np.asarray(right)).max()
    complete = unshared(model)
    assert unshared(complete) is complete


def test_floats_that_int8_weights_are_made_of_are_not_kept_beside_them() -> None:
    found = unshared(network(("wq", "ws", "wz"), ("vq", "ws", "wz"), before=FLOATS))
    kinds = [each.data_type for each in found.graph.initializer if each.dims == [16, 16]]
    assert kinds == [TensorProto.INT8] * 2


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("opset", [13, 18])
def test_weights_of_floats_in_older_files_are_opened(opset: int) -> None:
    model = network(("wq", "ws", "wz"), ("vq", "ws", "wz"), before=FLOATS, opset=opset)
    session.open_graph(model.SerializeToString(), session.session_options())


@pytest.mark.usefixtures("exact")
def test_what_is_drawn_at_random_is_no_constant() -> None:
    drawn = helper.make_node("RandomNormal", [], ["fw"], shape=[16, 16])
    model = network(("wq", "ws", "wz"), ("wq", "ws", "vz"), before=[drawn, *FLOATS[:1]])
    del model.graph.initializer[[each.name for each in model.graph.initializer].index("fw")]
    assert {"RandomNormal", QUANTIZE} <= {node.op_type for node in unshared(model).graph.node}
    session.open_graph(model.SerializeToString(), session.session_options())


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


@pytest.mark.usefixtures("exact")
def test_a_file_that_is_no_graph_is_left_to_onnx_runtime(tmp_path: Path) -> None:
    (tmp_path / "some.onnx").write_bytes(b"no graph")
    for what in (b"no graph", tmp_path / "some.onnx", tmp_path / "missing.onnx"):
        with pytest.raises(session.ERRORS):
            session.open_graph(what, session.session_options())


@pytest.mark.usefixtures("exact")
def test_a_graph_with_less_than_onnx_asks_for_is_refused_by_name() -> None:
    mute, hollow, few = (SHARED["a zero point"]() for _ in range(3))
    mute.graph.node[2].ClearField("output")
    hollow.graph.node.insert(0, helper.make_node("Constant", [], ["nothing"]))
    few.graph.node.insert(2, helper.make_node("QLinearMatMul", ["q", "s", "z"], ["less"]))
    for model in (mute, hollow, few):
        with pytest.raises(InvalidOnnx, match="export the model again"):
            session.open_graph(model.SerializeToString(), session.session_options())


@pytest.mark.usefixtures("exact")
@pytest.mark.parametrize("least", [0, 100])
def test_weights_beside_a_file_are_found(tmp_path: Path, least: int) -> None:
    model = SHARED["a weight"]()
    x = RNG.normal(0, 1, (4, 16)).astype(np.float32)
    (right,) = session.open_graph(model.SerializeToString(), session.session_options()).run(None, {"x": x})
    path = tmp_path / "model.onnx"
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=least)
    (found,) = session.open_graph(path, session.session_options()).run(None, {"x": x})
    np.testing.assert_array_equal(found, right)
    (tmp_path / "weights").unlink()
    with pytest.raises(session.ERRORS):
        session.open_graph(path, session.session_options())

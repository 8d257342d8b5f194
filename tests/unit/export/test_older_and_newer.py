"""Files of older opsets keep their answers, and those of newer versions are told so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.errors import InvalidOnnx, ParityFailed
from regiolect.export import export_model
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import conv_net, outputs

IMAGES = np.random.default_rng(4).normal(size=(5, 2, 6, 6)).astype(np.float32)


def resizing(operator: str, opset: int, mode: str, scales: list[float]) -> ModelProto:
    """Scales are an attribute before opset 9."""
    given = {"scales": list(map(float, scales))} if opset < 9 else {}
    node: NodeProto = helper.make_node(operator, ["x"] if given else ["x", "s"], ["r"], mode=mode, **given)
    held = [] if given else [numpy_helper.from_array(np.asarray(scales, np.float32), "s")]
    shape = ["n", 2, *(int(6 * scale) for scale in scales[2:])]
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node, helper.make_node("Neg", ["r"], ["y"])],
        "net",
        [value("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [value("y", TensorProto.FLOAT, shape)],
        held,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=4)


@pytest.mark.parametrize("mode", ["nearest", "linear"])
@pytest.mark.parametrize(
    ("operator", "opset", "scales"),
    [
        ("Upsample", 7, [1, 1, 2, 2]),
        ("Upsample", 8, [1, 1, 1.5, 2.5]),
        ("Upsample", 9, [1, 1, 1.5, 2.5]),
        ("Resize", 10, [1, 1, 2, 2]),
        ("Resize", 10, [1, 1, 1.5, 2.5]),
        ("Resize", 10, [1, 1, 0.5, 0.75]),
    ],
)
def test_resizes_of_older_opsets_answer_as_they_did(
    spec_of: Callable[..., Any], store: LocalStore, operator: str, opset: int, mode: str, scales: list[float]
) -> None:
    """The default of later opsets took other places, and randomness in the model was blamed."""
    model = resizing(operator, opset, mode, scales)
    exported = export_model(spec_of(model), store, None)
    assert exported.opset == 20
    given = outputs(model.SerializeToString(), IMAGES)
    np.testing.assert_allclose(outputs(str(store.path_of(exported.graph)), IMAGES), given, atol=1e-5)


def test_what_has_no_mode_in_later_opsets_is_refused(spec_of: Callable[..., Any], store: LocalStore) -> None:
    """The nearest of a side that grows is the one before, of a side that shrinks the one behind."""
    with pytest.raises(ParityFailed):
        export_model(spec_of(resizing("Resize", 10, "nearest", [1, 1, 2.5, 0.75])), store, None)


@pytest.mark.parametrize("version", [14, 99])
def test_a_newer_ir_version_is_told_both_numbers(spec_of: Callable[..., Any], store: LocalStore, version: int) -> None:
    """It was asked to copy the file again."""
    model = conv_net()
    model.ir_version = version
    with pytest.raises(InvalidOnnx, match=rf"IR version 13 or earlier.*found IR version {version}") as failure:
        export_model(spec_of(model), store, None)
    assert "ir_version=10" in failure.value.remedy


@pytest.mark.parametrize("name", ["node", ""])
def test_nodes_of_one_name_are_taken(spec_of: Callable[..., Any], store: LocalStore, name: str) -> None:
    """They were refused in ONNX Runtime's words."""
    model = conv_net()
    for node in model.graph.node:
        node.name = name
    exported = export_model(spec_of(model), store, None)
    nodes = onnx.load(store.path_of(exported.graph)).graph.node
    assert len({node.name for node in nodes}) == len(nodes)
    path = str(store.path_of(exported.graph))
    np.testing.assert_allclose(outputs(path, IMAGES), outputs(conv_net().SerializeToString(), IMAGES), atol=1e-4)


def test_a_tensor_named_like_a_freed_shape_keeps_its_meaning(spec_of: Callable[..., Any], store: LocalStore) -> None:
    model = conv_net(4, target=4, extra=(helper.make_node("Mul", ["m", "shape_batch"], ["y"]),))
    model.graph.initializer.append(numpy_helper.from_array(np.asarray(2, np.float32), "shape_batch"))
    exported = export_model(spec_of(model), store, None)
    twice = 2 * outputs(conv_net().SerializeToString(), IMAGES)
    np.testing.assert_allclose(outputs(str(store.path_of(exported.graph)), IMAGES), twice, atol=1e-4)

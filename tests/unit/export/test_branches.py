"""An If whose condition is settled before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.errors import UnsupportedOperator
from regiolect.export import export_model
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import WEIGHT, operators, outputs

IMAGES = np.random.default_rng(6).normal(size=(5, 2, 6, 6)).astype(np.float32)


def branch(operator: str, inputs: list[str], made: str) -> GraphProto:
    value = helper.make_tensor_value_info(made, TensorProto.FLOAT, None)
    return helper.make_graph([helper.make_node(operator, inputs, [made])], made, [], [value])


def squeezing(place: Any, wanted: int, **settings: int) -> ModelProto:
    """What torch writes for a squeeze of an axis: Squeeze where its extent is `wanted`, and Identity elsewhere."""
    node = helper.make_node
    choice = {"then_branch": branch("Squeeze", ["p", "axis"], "a"), "else_branch": branch("Neg", ["p"], "b")}
    nodes: list[NodeProto] = [
        node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        node("GlobalAveragePool", ["c"], ["p"]),
        node("Shape", ["p"], ["extents"]),
        node("Gather", ["extents", "place"], ["last"], **settings),
        node("Equal", ["last", "wanted"], ["condition"]),
        node("If", ["condition"], ["y"], "choice", **choice),
    ]
    held = {"w": WEIGHT, "axis": [3], "place": place, "wanted": np.full_like(place, wanted)}
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "net",
        [value("x", TensorProto.FLOAT, ["n", 2, 6, 6])],
        [value("y", TensorProto.FLOAT, [None] * (3 if wanted == 1 else 4))],
        [numpy_helper.from_array(np.asarray(each), name) for name, each in held.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize("wanted", [1, 2])
@pytest.mark.parametrize(("place", "settings"), [(3, {}), ([3], {}), ([-1], {"axis": 0}), ([[3]], {"axis": 0})])
def test_a_branch_that_fixed_extents_settle_takes_its_place(
    spec_of: Callable[..., Any], store: LocalStore, place: Any, settings: dict[str, int], wanted: int
) -> None:
    """It was refused as control flow."""
    model = squeezing(np.asarray(place, np.int64), wanted, **settings)
    found = onnx.load(store.path_of(export_model(spec_of(model), store, None).graph))
    assert operators(found) == ["Conv", "GlobalAveragePool", "Squeeze" if wanted == 1 else "Neg"]
    given = outputs(model.SerializeToString(), IMAGES)
    np.testing.assert_allclose(outputs(found.SerializeToString(), IMAGES), given, atol=1e-5)


def test_a_branch_that_the_batch_decides_stays_refused(spec_of: Callable[..., Any], store: LocalStore) -> None:
    with pytest.raises(UnsupportedOperator, match="'choice'"):
        export_model(spec_of(squeezing(np.asarray([0], np.int64), 1)), store, None)

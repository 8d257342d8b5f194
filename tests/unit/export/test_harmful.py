"""ONNX files made to harm end at once, in an error with a name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx
import pytest
from onnx import FunctionProto, ModelProto, NodeProto, helper

from regiolect.errors import InvalidOnnx
from regiolect.export import export_model
from regiolect.storage import LocalStore
from tests.unit.export.onnx_files import conv_net, operators

OURS = "local"


def function(name: str, operators: list[str]) -> FunctionProto:
    """A function that calls others one after the other; names of ONNX's own domain are operators."""
    names = ["a", *(f"t{index}" for index in range(len(operators) - 1)), "b"]
    nodes = [
        helper.make_node(operator, [before], [after], domain=OURS if operator.startswith("F") else "")
        for operator, before, after in zip(operators, names, names[1:], strict=False)
    ]
    imports = [helper.make_opsetid("", 20), helper.make_opsetid(OURS, 1)]
    return helper.make_function(OURS, name, ["a"], ["b"], nodes, imports)


def calling(*functions: FunctionProto) -> ModelProto:
    model: ModelProto = conv_net(extra=(helper.make_node("F0", ["m"], ["y"], domain=OURS),))
    model.functions.extend(functions)
    model.opset_import.add(domain=OURS, version=1)
    return model


def nested(depth: int, times: int) -> ModelProto:
    inner = [function(f"F{level}", [f"F{level + 1}"] * times) for level in range(depth - 1)]
    return calling(*inner, function(f"F{depth - 1}", ["Relu"] * times))


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (calling(function("F0", ["F0"])), "'F0' of domain 'local', which calls itself"),
        (calling(function("F0", ["Relu", "F1"]), function("F1", ["F0"])), "which calls itself"),
        (nested(8, 10), "100,000,005, once its local functions are inlined"),
        (nested(3000, 1), "nested more than 50 deep"),
    ],
    ids=["itself", "in a ring", "a hundred million nodes", "3000 deep"],
)
def test_functions_without_bounds_are_named(
    spec_of: Callable[..., Any], store: LocalStore, model: ModelProto, said: str
) -> None:
    """The first two ended in a stack trace; 10 calls of 10 of 10 filled the memory."""
    with pytest.raises(InvalidOnnx, match=said):
        export_model(spec_of(model), store, None)


def test_functions_within_bounds_are_inlined(spec_of: Callable[..., Any], store: LocalStore) -> None:
    exported = export_model(spec_of(nested(2, 10)), store, None)
    assert exported.nodes_before == 105


def test_types_that_onnx_lacks_are_named(spec_of: Callable[..., Any], store: LocalStore) -> None:
    """They ended in a stack trace."""
    model = conv_net()
    model.graph.initializer[0].data_type = 99
    with pytest.raises(InvalidOnnx, match="data type 99"):
        export_model(spec_of(model), store, None)


def test_nodes_that_nothing_needs_are_left_out_at_once(spec_of: Callable[..., Any], store: LocalStore) -> None:
    """20,000 of them took four minutes."""
    model = conv_net()
    model.graph.node.extend(NodeProto(op_type="Relu", input=["m"], output=[f"dead{place}"]) for place in range(20_000))
    exported = export_model(spec_of(model), store, None)
    assert exported.nodes_before == 6
    assert len(operators(onnx.load(store.path_of(exported.graph)))) == 4

"""Local functions of an ONNX file, replaced by their bodies as far as that stays bounded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import onnx
from onnx import ModelProto, NodeProto

from regiolect.errors import InvalidOnnx
from regiolect.export.external import not_whole
from regiolect.export.parity import last_line
from regiolect.graphs.protos import attribute_graphs, inlined

MOST_NODES = 200_000
"""Nodes that a graph may have once its functions are inlined. Large language models have tens of thousands."""
_DEEPEST = 50
_Key = tuple[str, str, str]


def without_functions(path: Path, model: ModelProto) -> ModelProto:
    """The model with calls of its local functions replaced by their bodies.

    A few functions that call each other ten times make more nodes than memory holds, so they are counted first.

    Raises:
        InvalidOnnx: a function that calls itself, calls nested too deep, or too many nodes.
    """
    bodies = {(each.domain, each.name, each.overload): each.node for each in model.functions}
    counted = _Counted(path, {key: list(nodes) for key, nodes in bodies.items()})
    try:
        count = counted.nodes(model.graph.node, ())
    except RecursionError as error:
        raise not_whole(path, "subgraphs in functions nested too deep to follow") from error
    if count > MOST_NODES:
        raise InvalidOnnx(
            expected=f"at most {MOST_NODES:,} nodes in {path}",
            found=f"{count:,}, once its local functions are inlined",
            remedy="export the model again; functions that call each other many times over are made by no exporter",
        )
    try:
        return inlined(model)
    except (onnx.checker.ValidationError, RuntimeError, ValueError) as error:
        raise not_whole(path, last_line(error)) from error


class _Counted:
    """How many nodes calls lead to; each function is counted once."""

    def __init__(self, path: Path, bodies: dict[_Key, list[NodeProto]]) -> None:
        self._path, self._bodies = path, bodies
        self._known: dict[_Key, int] = {}

    def nodes(self, nodes: Iterable[NodeProto], callers: tuple[_Key, ...]) -> int:
        return sum(self._node(node, callers) for node in nodes)

    def _node(self, node: NodeProto, callers: tuple[_Key, ...]) -> int:
        inner = sum(self.nodes(graph.node, callers) for graph in attribute_graphs(node))
        key = (node.domain, node.op_type, node.overload)
        return inner + (self._function(key, callers) if key in self._bodies else 1)

    def _function(self, key: _Key, callers: tuple[_Key, ...]) -> int:
        if key in callers:
            raise not_whole(self._path, f"function {key[1]!r} of domain {key[0]!r}, which calls itself")
        if len(callers) >= _DEEPEST:
            raise not_whole(self._path, f"calls of functions nested more than {_DEEPEST} deep")
        if key not in self._known:
            self._known[key] = self.nodes(self._bodies[key], (*callers, key))
        return self._known[key]

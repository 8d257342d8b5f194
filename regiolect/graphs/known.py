"""Constants of a graph, those that its nodes compute from constants alone among them."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, ValueInfoProto, helper, numpy_helper

from regiolect.errors import UnsupportedOperator
from regiolect.graphs.protos import attribute_graphs, constants, is_standard, opset, with_opset

# What ONNX's reference raises where it does not compute a node, and its first opset with Q/DQ nodes.
_NOT_COMPUTED = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError, UnsupportedOperator)
_OPSET = 19


class Known:
    """Initializers, Constant nodes of any form, and what deterministic nodes of ONNX's own domain make of these alone.

    Runtimes fold the same ones before they look at weights. Nothing is computed before it is asked for. Nodes inside of
    control flow are not looked at.

        known = Known(model)
        "weight_quantized" in known       # depends on no input
        known.get("weight_quantized")     # its value, or None
    """

    def __init__(self, model: ModelProto) -> None:
        self._model, self._held = model, constants(model.graph)
        self._made_by: dict[str, int] = {}
        version = opset(model)
        for place, node in enumerate(model.graph.node):
            if all(name in self for name in node.input if name) and _is_deterministic(node, version):
                self._made_by.update(dict.fromkeys(filter(None, node.output), place))

    def __contains__(self, name: str) -> bool:
        return name in self._held or name in self._made_by

    def get(self, name: str) -> TensorProto | None:
        """The value of a constant; None if the name is none, or ONNX's reference does not compute it."""
        if name not in self._held and name in self._made_by:
            value = self._computed(name)
            if value is None:
                return None
            self._held[name] = value
        return self._held.get(name)

    def add(self, tensor: TensorProto) -> None:
        """Count an initializer that the graph got since."""
        self._held[tensor.name] = tensor

    def _computed(self, name: str) -> TensorProto | None:
        nodes, needed, waiting = self._model.graph.node, set[int](), [name]
        while waiting:
            each = waiting.pop()
            place = None if each in self._held else self._made_by.get(each)
            if place is not None and place not in needed:
                needed.add(place)
                waiting.extend(nodes[place].input)
        chain = [nodes[place] for place in sorted(needed)]
        given = dict.fromkeys(each for node in chain for each in node.input if each in self._held)
        graph = helper.make_graph(
            chain, "constants", [], [ValueInfoProto(name=name)], [self._named(each) for each in given]
        )
        model = helper.make_model(graph, opset_imports=self._model.opset_import)
        # Most graphs need none of it.
        from onnx.reference import ReferenceEvaluator

        try:
            with np.errstate(all="ignore"):
                (value,) = ReferenceEvaluator(with_opset(model, _OPSET, "constants")).run([name], {})
        except _NOT_COMPUTED:
            return None
        return numpy_helper.from_array(np.asarray(value), name)

    def _named(self, name: str) -> TensorProto:
        """A constant by the name that nodes read it by: a Constant's tensor need not have it."""
        tensor = self._held[name]
        if tensor.name == name:
            return tensor
        copy = TensorProto()
        copy.CopyFrom(tensor)
        copy.name = name
        return copy


def _is_deterministic(node: onnx.NodeProto, version: int) -> bool:
    if not is_standard(node) or any(attribute_graphs(node)) or not onnx.defs.has(node.op_type, version, ""):
        return False
    schema = onnx.defs.get_schema(node.op_type, version, "")
    return not schema.non_deterministic  # type: ignore[attr-defined]  # onnx's types leave it out

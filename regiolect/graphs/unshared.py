"""Int8 weights as ONNX Runtime can rewrite them, where it does: each with one reader, and with a zero point.

Where 8 x 8 bits saturate it makes int8 weights unsigned, one node at a time, and names what it made after the weight.
In ONNX Runtime 1.31 the second node with the same weight, or zero point, then ends the session: "Attempt to replace the
existing tensor". A DequantizeLinear that several nodes read, or that is an output as well, is such a case too, for ONNX
Runtime first gives each reader one of its own, of the same weight. So are weights that nodes make of constants alone,
of floats by a QuantizeLinear for one: it folds them by itself, before it rewrites.

Where a weight has a scale for each channel and no zero point, which means 0, it writes a single one, and every
run fails.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from regiolect.graphs.known import Known
from regiolect.graphs.protos import constants, drop_unread, is_standard, sort_nodes
from regiolect.graphs.qdq import Names

# By operator: the inputs that may be a weight, each with its zero point.
_WEIGHTS = {
    "DequantizeLinear": ((0, 2),),
    "MatMulInteger": ((0, 2), (1, 3)),
}
# What ONNX Runtime takes out, or may, so that readers of what it makes read the DequantizeLinear before it; and
# arithmetic, with the constant beside which it is nothing.
_LEFT_OUT = frozenset({"Identity", "Dropout", "Cast", "Expand", "Transpose"})
_NOTHING = {"Mul": 1, "Div": 1, "Add": 0, "Sub": 0}


def unshared(model: ModelProto) -> ModelProto:
    """The same model in which no int8 weight, or its zero point, has a second reader, and none with several scales is
    without a zero point; itself if it is of that form.

    Weights that are computed from constants alone are initializers in what is made. Nodes inside of control flow are
    left as they are; an export has none.
    """
    if not any(node.op_type in _WEIGHTS and is_standard(node) for node in model.graph.node):
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names = Names(graph)
    if _fold(result, names):
        drop_unread(graph)
    weights = {name: each for name, each in constants(graph).items() if each.data_type == TensorProto.INT8}
    changed = _split(graph, weights, names) | _complete(result, weights, names)
    uses = Counter(name for node in graph.node for name in node.input)
    for node in graph.node:
        for place in _weights(node, weights):
            name = node.input[place]
            if uses[name] > 1:
                uses[name] -= 1
                copy = graph.initializer.add()
                copy.CopyFrom(weights[name])
                copy.name = node.input[place] = names.new(name)
                changed = True
    return result if changed else model


def _fold(model: ModelProto, names: Names) -> bool:
    """Let readers of int8 weights and zero points that nodes make of constants alone read them as initializers."""
    known, folded = Known(model), dict[str, str]()
    held = constants(model.graph)
    for node in model.graph.node:
        for pair in _WEIGHTS.get(node.op_type, ()) if is_standard(node) else ():
            places = [place for place in pair if place < len(node.input)]
            if not places or node.input[places[0]] not in known:
                continue
            for place in places:
                name = node.input[place]
                value = None if name in held or name in folded else known.get(name)
                if value is not None and value.data_type == TensorProto.INT8:
                    folded[name] = names.new(name)
                    tensor = model.graph.initializer.add()
                    tensor.CopyFrom(value)
                    tensor.name = folded[name]
                    known.add(tensor)
                node.input[place] = folded.get(name, name)
    return bool(folded)


def _complete(model: ModelProto, weights: Mapping[str, TensorProto], names: Names) -> bool:
    """Give weights with several scales the zero point that they have without one."""
    found = [
        node
        for node in model.graph.node
        if is_standard(node)
        and node.op_type == "DequantizeLinear"
        and node.input[0] in weights
        and not any(node.input[2:])
    ]
    known, changed = Known(model) if found else None, False
    for node in found:
        scale = known.get(node.input[1]) if known is not None else None
        if scale is not None and len(scale.dims) > 0:
            name = names.new(f"{node.input[1]}_zero_point")
            model.graph.initializer.append(numpy_helper.from_array(np.zeros(tuple(scale.dims), np.int8), name))
            node.input[2:] = [name]
            changed = True
    return changed


def _split(graph: GraphProto, weights: Mapping[str, TensorProto], names: Names) -> bool:
    """Give each reader of a dequantized weight a DequantizeLinear of its own; an output of the graph keeps the one."""
    # Nodes on the way from a weight, each with the place of what the one before it made.
    made: dict[str, list[tuple[NodeProto, int]]] = {}
    held = constants(graph)
    for node in graph.node:
        passed = _passed(node, held) if any(name in made for name in node.input) else None
        if is_standard(node) and node.op_type == "DequantizeLinear" and node.input[0] in weights:
            made[node.output[0]] = [(node, 0)]
        elif passed is not None and node.input[passed] in made:
            made[node.output[0]] = [*made[node.input[passed]], (node, passed)]
    taken = {output.name for output in graph.output}
    copies: list[NodeProto] = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in made and name in taken:
                for source, passed in made[name]:
                    copy = NodeProto()
                    copy.CopyFrom(source)
                    copy.name = names.new(source.name or source.output[0])
                    if source.op_type != "DequantizeLinear":
                        copy.input[passed] = copies[-1].output[0]
                    copy.output[:] = [names.new(source.output[0])]
                    copies.append(copy)
                node.input[place] = copies[-1].output[0]
            taken.add(name)
    graph.node.extend(copies)
    if copies:
        sort_nodes(graph)
    return bool(copies)


def _passed(node: NodeProto, held: Mapping[str, TensorProto]) -> int | None:
    """Place of the input that ONNX Runtime lets readers of a node's output read instead; None where there is none."""
    if not is_standard(node):
        return None
    if node.op_type in _LEFT_OUT:
        return 0
    if node.op_type in _NOTHING:
        for one, other in ((0, 1), (1, 0))[: 1 if node.op_type in ("Div", "Sub") else 2]:
            constant = held.get(node.input[other])
            if constant is not None and np.all(numpy_helper.to_array(constant) == _NOTHING[node.op_type]):
                return one
    return None


def _weights(node: NodeProto, weights: Mapping[str, TensorProto]) -> Iterator[int]:
    """Places among a node's inputs of its int8 weights and of their zero points."""
    for pair in _WEIGHTS.get(node.op_type, ()) if is_standard(node) else ():
        given = [place for place in pair if place < len(node.input)]
        if given and node.input[given[0]] in weights:
            yield from (place for place in given if node.input[place] in weights)

"""Int8 weights that several nodes share, given to each of them: what ONNX Runtime needs where it rewrites such weights.

Where 8 x 8 bits saturate it makes int8 weights unsigned, one node at a time, and names what it made after the weight.
In ONNX Runtime 1.31 the second node with the same weight, or zero point, then ends the session: "Attempt to replace the
existing tensor". A DequantizeLinear that several nodes read, or that is an output as well, is such a case too, for ONNX
Runtime first gives each reader one of its own, of the same weight. So are weights that nodes make of constants alone,
of floats by a QuantizeLinear for one: it folds them by itself, before it rewrites.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from regiolect.graphs.known import Known
from regiolect.graphs.protos import constants, drop_unread, is_standard, sort_nodes
from regiolect.graphs.qdq import Names

# By operator: the inputs that may be a weight, each with its zero point.
_WEIGHTS = {
    "DequantizeLinear": ((0, 2),),
    "MatMulInteger": ((0, 2), (1, 3)),
}
# What ONNX Runtime takes out, so that readers of what it makes read the DequantizeLinear before it.
_LEFT_OUT = frozenset({"Identity", "Dropout", "Cast"})


def unshared(model: ModelProto) -> ModelProto:
    """The same model in which no int8 weight, or its zero point, has a second reader; itself if none has.

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
    changed = _split(graph, weights, names)
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


def _split(graph: GraphProto, weights: Mapping[str, TensorProto], names: Names) -> bool:
    """Give each reader of a dequantized weight a DequantizeLinear of its own; an output of the graph keeps the one."""
    made: dict[str, list[NodeProto]] = {}
    for node in graph.node:
        if is_standard(node) and node.op_type == "DequantizeLinear" and node.input[0] in weights:
            made[node.output[0]] = [node]
        elif is_standard(node) and node.op_type in _LEFT_OUT and node.input[0] in made:
            made[node.output[0]] = [*made[node.input[0]], node]
    taken = {output.name for output in graph.output}
    copies: list[NodeProto] = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in made and name in taken:
                for source in made[name]:
                    copy = NodeProto()
                    copy.CopyFrom(source)
                    copy.name = names.new(source.name or source.output[0])
                    if source.op_type in _LEFT_OUT:
                        copy.input[0] = copies[-1].output[0]
                    copy.output[:] = [names.new(source.output[0])]
                    copies.append(copy)
                node.input[place] = copies[-1].output[0]
            taken.add(name)
    graph.node.extend(copies)
    if copies:
        sort_nodes(graph)
    return bool(copies)


def _weights(node: NodeProto, weights: Mapping[str, TensorProto]) -> Iterator[int]:
    """Places among a node's inputs of its int8 weights and of their zero points."""
    for pair in _WEIGHTS.get(node.op_type, ()) if is_standard(node) else ():
        given = [place for place in pair if place < len(node.input)]
        if given and node.input[given[0]] in weights:
            yield from (place for place in given if node.input[place] in weights)

"""Int8 weights that several nodes share, given to each of them: what ONNX Runtime needs where it rewrites such weights.

Where 8 x 8 bits saturate it makes int8 weights unsigned, one node at a time, and names what it made after the weight.
In ONNX Runtime 1.31 the second node with the same weight, or zero point, then ends the session: "Attempt to replace the
existing tensor". A DequantizeLinear that several nodes read, or that is an output as well, is such a case too, for ONNX
Runtime first gives each reader one of its own, of the same weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from regiolect.graphs.protos import constants, is_standard, sort_nodes
from regiolect.graphs.qdq import Names

# By operator: the inputs that may be a weight, each with its zero point.
_WEIGHTS = {
    "DequantizeLinear": ((0, 2),),
    "MatMulInteger": ((0, 2), (1, 3)),
}


def unshared(model: ModelProto) -> ModelProto:
    """The same model in which no int8 weight, or its zero point, has a second reader; itself if none has.

    Nodes inside of control flow are left as they are; an export has none.
    """
    weights = {name: each for name, each in constants(model.graph).items() if each.data_type == TensorProto.INT8}
    if not weights:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    names = Names(graph)
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


def _split(graph: GraphProto, weights: Mapping[str, TensorProto], names: Names) -> bool:
    """Give each reader of a dequantized weight a DequantizeLinear of its own; an output of the graph keeps the one."""
    made = {node.output[0]: node for node in graph.node if node.op_type == "DequantizeLinear" and is_standard(node)}
    made = {name: node for name, node in made.items() if node.input[0] in weights}
    taken = {output.name for output in graph.output}
    copies = []
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in made and name in taken:
                copy = NodeProto()
                copy.CopyFrom(made[name])
                copy.name = names.new(copy.name or name)
                copy.output[0] = node.input[place] = names.new(name)
                copies.append(copy)
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

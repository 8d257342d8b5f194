"""What of a graph a refit cannot change: two graphs of one structure differ in weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import onnx
from onnx import GraphProto, ModelProto, TensorProto

from regiolect.integrity import digest_bytes

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
_OWN_DOMAIN = ("", "ai.onnx")
# A scale decides how kernels are fused and what constants they hold, and quantized weights come with scales of their
# own: INT8 is built anew. So is what has another number elsewhere, a bound of Clip or a scale of Resize: it is read
# when the graph is parsed, and is in the plan for good. What is refitted are weights, where operators take them.
_WEIGHTS = {
    "BatchNormalization": (1, 2, 3, 4),
    "Conv": (1, 2),
    "ConvTranspose": (1, 2),
    "Gemm": (1, 2),
    "MatMul": (0, 1),
    "PRelu": (1,),
}


def structure(graph: bytes) -> str:
    """Digest of an ONNX graph without the values of its float weights.

    A float tensor is a weight if every node that takes it takes it as one, or adds it to a matrix product. Everything
    else, scales and zero points and constants inside of nodes among it, counts with its values.
    """
    model = onnx.load_model_from_string(graph)
    bare = ModelProto()
    bare.CopyFrom(model)
    fixed = _fixed(list(_graphs(bare.graph)))
    for each in _graphs(bare.graph):
        for tensor in each.initializer:
            if tensor.data_type in _FLOATS and tensor.name not in fixed:
                kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                tensor.CopyFrom(kept)
    return digest_bytes(bare.SerializeToString(deterministic=True))


def _fixed(graphs: Sequence[GraphProto]) -> set[str]:
    """Names of what some node takes as something else than a weight, or a graph gives as it is."""
    products = {name for each in graphs for node in each.node if node.op_type == "MatMul" for name in node.output}
    fixed = {value.name for each in graphs for value in each.output}
    for node in (node for each in graphs for node in each.node):
        weights = _WEIGHTS.get(node.op_type, ()) if node.domain in _OWN_DOMAIN else ()
        if node.op_type == "Add" and products & set(node.input):
            weights = tuple(place for place, name in enumerate(node.input) if name not in products)
        fixed |= {name for place, name in enumerate(node.input) if place not in weights}
    return fixed


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer or inner.output:
                    yield from _graphs(inner)

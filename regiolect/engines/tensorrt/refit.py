"""What of a graph a refit cannot change: two graphs of one structure differ in weights alone."""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import GraphProto, ModelProto, TensorProto

from regiolect.integrity import digest_bytes

_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)
# A scale decides how kernels are fused and what constants they hold, and quantized weights come with scales of their
# own: INT8 is built anew.
_SCALED = ("QuantizeLinear", "DequantizeLinear")


def structure(graph: bytes) -> str:
    """Digest of an ONNX graph without the values of its float weights.

    Scales, zero points, everything that is no float tensor, and constants inside of nodes count with their values.
    """
    model = onnx.load_model_from_string(graph)
    bare = ModelProto()
    bare.CopyFrom(model)
    scaled = {
        name for each in _graphs(bare.graph) for node in each.node if node.op_type in _SCALED for name in node.input
    }
    for each in _graphs(bare.graph):
        for tensor in each.initializer:
            if tensor.data_type in _FLOATS and tensor.name not in scaled:
                kept = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
                tensor.CopyFrom(kept)
    return digest_bytes(bare.SerializeToString(deterministic=True))


def _graphs(graph: GraphProto) -> Iterator[GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                if inner.node or inner.initializer:
                    yield from _graphs(inner)

"""FP16: a float32 graph as float16, float32 at its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, numpy_helper

from regiolect.errors import PrecisionOverflow, UnsupportedOperator
from regiolect.graphs.protos import check, graphs, is_standard, sort_nodes, with_opset

LARGEST = float(np.finfo(np.float16).max)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def halved(model: ModelProto) -> ModelProto:
    """Every float32 tensor inside the graph as float16; graph inputs and outputs stay float32 behind Casts.

    The conversion itself is ONNX Runtime's, which keeps a few operators (TopK, CumSum, Range, Min, Max, ...) and the
    scales of Resize float32 between Casts, and raises values nearer to zero than float16 can hold to its smallest.

    Raises:
        PrecisionOverflow: a constant beyond 65504 in magnitude, which would be clipped. Infinities stay infinite.
        UnsupportedOperator: Q/DQ nodes in an opset that has them in float32 only and cannot be raised.
        InvalidOnnx: the graph is not valid to begin with.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    if any(node.op_type in _QUANTIZERS and is_standard(node) for graph in graphs(model.graph) for node in graph.node):
        model = with_opset(model, 19, "QuantizeLinear and DequantizeLinear with float16 scales")
    _refuse_overflow(model.graph)
    inferred = check(model)
    result: ModelProto = convert_float_to_float16(inferred, keep_io_types=True, disable_shape_infer=True)
    for graph in graphs(result.graph):
        sort_nodes(graph)
    return result


def _refuse_overflow(graph: GraphProto) -> None:
    for name, tensor in _float_tensors(graph):
        values = numpy_helper.to_array(tensor)
        finite = np.abs(values[np.isfinite(values)])
        if finite.size and float(finite.max()) > LARGEST:
            raise PrecisionOverflow(
                expected=f"constants within float16's range, at most {LARGEST:g} in magnitude",
                found=f"{float(finite.max()):g} in {name!r}, and {int((finite > LARGEST).sum())} such values in all",
                remedy="rescale the layer, write masks as -inf or -1e4, or give the region FP32",
            )


def _float_tensors(graph: GraphProto) -> Iterator[tuple[str, TensorProto]]:
    for inner in graphs(graph):
        for tensor in inner.initializer:
            if tensor.data_type == TensorProto.FLOAT:
                yield tensor.name, tensor
        for sparse in inner.sparse_initializer:
            raise UnsupportedOperator(
                expected="dense initializers in a graph to be typed FP16",
                found=f"the sparse initializer {sparse.values.name!r}",
                remedy="export the model with dense weights",
            )
        for node in inner.node:
            for attribute in node.attribute:
                held = [attribute.t] if attribute.HasField("t") else []
                for tensor in (*held, *attribute.tensors):
                    if tensor.data_type == TensorProto.FLOAT:
                        yield node.name or node.output[0], tensor

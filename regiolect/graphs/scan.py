"""Static scan: in which precision a graph says that it computes."""

from __future__ import annotations

from collections.abc import Mapping

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from regiolect.contracts import Execution, Precision
from regiolect.errors import InvalidOnnx, UnsupportedOperator
from regiolect.graphs.protos import (
    MOVES_ONE_INPUT,
    attribute_graphs,
    check,
    dequantizer_of,
    inlined,
    is_standard,
    tensor_types,
)
from regiolect.precision import WIDEST_FIRST

# Operators that convert, move or describe values and compute nothing on them.
_NO_COMPUTE = MOVES_ONE_INPUT | {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "CastLike"),
    *("Constant", "ConstantOfShape", "Shape", "Size"),
    *("Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Pad"),
    *("DepthToSpace", "SpaceToDepth", "ScatterElements", "ScatterND", "ReverseSequence", "Compress"),
    *("If", "Loop", "Scan", "SequenceConstruct", "SequenceAt", "SequenceEmpty", "SequenceInsert", "SequenceLength"),
    *("ConcatFromSequence", "SplitToSequence", "SequenceErase", "OneHot", "EyeLike", "IsNaN", "IsInf"),
}
_INTEGER_COMPUTE = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
_FLOATS: dict[int, Precision] = {TensorProto.FLOAT: Precision.FP32, TensorProto.FLOAT16: Precision.FP16}
_EIGHT_BITS = (TensorProto.INT8, TensorProto.UINT8)
_NOT_FLOAT = frozenset(
    {
        *(TensorProto.BOOL, TensorProto.STRING, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32),
        *(TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
    }
)
# A bias in int32 behind DequantizeLinear is no quantized operand: integer kernels add it to an int32 sum.
_DEQUANTIZED_AS_FLOAT = (TensorProto.INT32,)


def scan(model: ModelProto) -> Mapping[Precision, int]:
    """Count compute nodes by precision, subgraphs and local functions included.

    A compute node reads or writes floats and is none that only converts, moves or describes values. It counts as
    coarse as the coarsest of its operands: INT8 for one that comes from a DequantizeLinear of int8 or uint8 values
    (directly or through nodes that only move values), else the element type that type inference gives it.

    Returns:
        The count of each precision, zeros included.

    Raises:
        InvalidOnnx: the graph is not valid, a type cannot be inferred, or nothing in it computes.
        UnsupportedOperator: any tensor of a type that no precision stands for (bfloat16, float64, float8, int4, ...).
    """
    inferred = check(inlined(model))
    counts = dict.fromkeys(Precision, 0)
    _scan_graph(inferred.graph, {}, {}, counts)
    if not any(counts.values()):
        raise InvalidOnnx(
            expected=f"graph {inferred.graph.name!r} to compute something",
            found="only nodes that convert, move or describe values",
            remedy="check that the exported model is the one you meant",
        )
    return counts


def _scan_graph(
    graph: GraphProto, types: dict[str, int], made_by: dict[str, NodeProto], counts: dict[Precision, int]
) -> None:
    types = types | tensor_types(graph)
    made_by = made_by | {name: node for node in graph.node for name in node.output if name}
    for node in graph.node:
        for inner in attribute_graphs(node):
            _scan_graph(inner, types, made_by, counts)
        precision = _precision_of(node, types, made_by)
        if precision is not None:
            counts[precision] += 1


def _precision_of(node: NodeProto, types: dict[str, int], made_by: dict[str, NodeProto]) -> Precision | None:
    operands = [_operand(name, node, types, made_by) for name in (*node.input, *node.output) if name]
    if not is_standard(node):
        # Inference knows its tensors only where another node states their types; what it does inside stays unknown.
        raise UnsupportedOperator(
            expected="operators of ONNX's own domain, whose precision can be read",
            found=f"{node.domain}.{node.op_type} in {_label(node)}",
            remedy="export the model without vendor operators",
        )
    if node.op_type in _INTEGER_COMPUTE:
        return Precision.INT8
    found = [precision for precision in operands if precision is not None]
    if node.op_type in _NO_COMPUTE or not found:
        return None
    return max(found, key=lambda precision: WIDEST_FIRST.index(Execution(precision)))


def _operand(name: str, node: NodeProto, types: dict[str, int], made_by: dict[str, NodeProto]) -> Precision | None:
    """The precision of one tensor; None for one that holds no floats."""
    kind = types.get(name, TensorProto.UNDEFINED)
    if kind == TensorProto.UNDEFINED and not _is_sequence(node):
        raise InvalidOnnx(
            expected=f"an element type for tensor {name!r} of {_label(node)}",
            found="type inference gave none",
            remedy="export the model with a newer exporter, or without vendor operators",
        )
    if kind in _NOT_FLOAT or kind == TensorProto.UNDEFINED:
        return None
    if kind not in _FLOATS:
        raise _unknown_type(name, node, kind)
    dequantizer = dequantizer_of(name, made_by) if name in node.input else None
    if dequantizer is not None:
        packed = types.get(dequantizer.input[0], TensorProto.UNDEFINED)
        if packed in _EIGHT_BITS:
            return Precision.INT8
        if packed not in _DEQUANTIZED_AS_FLOAT:
            raise _unknown_type(dequantizer.input[0], dequantizer, packed)
    return _FLOATS[kind]


def _is_sequence(node: NodeProto) -> bool:
    return "Sequence" in node.op_type


def _unknown_type(name: str, node: NodeProto, kind: int) -> UnsupportedOperator:
    return UnsupportedOperator(
        expected="tensors of float32, float16, int8 or plain integers",
        found=f"{TensorProto.DataType.Name(kind)} in tensor {name!r} of {_label(node)}",
        remedy="export the model in float32; Regiolect types FP16 and INT8 itself",
    )


def _label(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"

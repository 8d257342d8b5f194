"""Static scan: in which precision a graph says that it computes, node by node.

A type is followed from where a value arises to where it is computed with: through casts, quantization, nodes that only
move values, control flow, and arithmetic on constants alone. So weights count with the type in which they are stored,
and a value that was rounded on its way counts with the type that it was rounded to.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from onnx import GraphProto, ModelProto, NodeProto, TensorProto

from regiolect.contracts import GraphNode, Precision
from regiolect.errors import InvalidOnnx, UnsupportedOperator
from regiolect.graphs.protos import MOVES_ONE_INPUT, attribute_graphs, check, inlined, is_standard, tensor_types
from regiolect.precision import stored_in, traits, width

# Operators that convert, move or describe values and compute nothing on them.
_NO_COMPUTE = MOVES_ONE_INPUT | {
    *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Cast", "CastLike"),
    *("Constant", "ConstantOfShape", "Shape", "Size"),
    *("Concat", "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand", "Tile", "Pad"),
    *("DepthToSpace", "SpaceToDepth", "ScatterElements", "ScatterND", "ReverseSequence", "Compress"),
    *("If", "Loop", "Scan", "SequenceConstruct", "SequenceAt", "SequenceEmpty", "SequenceInsert", "SequenceLength"),
    *("ConcatFromSequence", "SplitToSequence", "SequenceErase", "OneHot", "EyeLike", "IsNaN", "IsInf"),
}
# Of these, where the values come in; the other inputs are indices, shapes and types. Whatever is not listed: all of
# them.
_VALUES: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys((*MOVES_ONE_INPUT, "Split", "Slice", "Gather", "GatherElements", "GatherND", "Expand"), (0,)),
    **dict.fromkeys(("Tile", "CastLike", "ReverseSequence", "Compress", "SequenceAt", "SplitToSequence"), (0,)),
    **dict.fromkeys(("Pad", "ScatterElements", "ScatterND"), (0, 2)),
    "OneHot": (2,),
    **dict.fromkeys(("Shape", "Size", "ConstantOfShape", "EyeLike", "IsNaN", "IsInf", "SequenceLength"), ()),
}
_INTEGER_COMPUTE = frozenset({"QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"})
# Element types of values, and of quantized ones, with the precision that each stands for.
_FLOATS, _INTEGERS = (
    {TensorProto.DataType.Value(name): precision for name, precision in stored_in(quantized=quantized).items()}
    for quantized in (False, True)
)
_SIXTEEN_BITS = (TensorProto.INT16, TensorProto.UINT16)
_NOT_FLOAT = frozenset(
    {
        *(TensorProto.BOOL, TensorProto.STRING, TensorProto.INT8, TensorProto.INT16, TensorProto.INT32),
        *(TensorProto.INT64, TensorProto.UINT8, TensorProto.UINT16, TensorProto.UINT32, TensorProto.UINT64),
        *_INTEGERS,
    }
)
# Quantized values that DequantizeLinear may take. A bias in int32 is no coarse operand: integer kernels add it to an
# int32 sum.
_QUANTIZED = (*_INTEGERS, TensorProto.INT32)
# Attributes that name the type in which an operator computes inside, whatever its tensors are.
_INNER_TYPES = frozenset({"stash_type", "softmax_precision", "precision"})


@dataclass(frozen=True)
class _Value:
    """What is known of a tensor besides its type.

    narrowest: the coarsest type in which it was held since it was last computed, itself not counted if it is what a
        node computed; None where it holds nothing that a type could have coarsened.
    constant: it depends on no input.
    """

    narrowest: Precision | None = None
    constant: bool = False


_NOTHING = _Value()
_Types = ChainMap[str, int]
_Values = ChainMap[str, _Value]


def scan(model: ModelProto) -> Mapping[Precision, int]:
    """Count compute nodes by precision; see `typed_nodes`, whose errors it raises. Zeros are included."""
    found = Counter(node.precision for node in typed_nodes(model))
    return {precision: found[precision] for precision in Precision}


def typed_nodes(model: ModelProto) -> tuple[GraphNode, ...]:
    """Every compute node with its precision, in graph order, subgraphs and local functions included.

    A compute node reads or writes floats and is none that only converts, moves or describes values. It counts as
    coarse as the coarsest of: the types of its operands; the types in which they were held since they were last
    computed, which are int8 or uint8 behind a DequantizeLinear or a Cast, and the stored type for weights; and the
    type that an attribute such as `stash_type` states.

    Returns:
        At least one node. Its name is the graph's own, or its first output where it has none.

    Raises:
        InvalidOnnx: the graph is not valid, a type cannot be inferred, or nothing in it computes.
        UnsupportedOperator: any tensor of a type that no precision stands for (bfloat16, float64, float8, int4, ...).
    """
    inferred = check(inlined(model))
    nodes = tuple(_scan_graph(inferred.graph, ChainMap(), ChainMap()))
    if not nodes:
        raise InvalidOnnx(
            expected=f"graph {inferred.graph.name!r} to compute something",
            found="only nodes that convert, move or describe values",
            remedy="check that the exported model is the one you meant",
        )
    return nodes


def _scan_graph(graph: GraphProto, types: _Types, values: _Values) -> Iterator[GraphNode]:
    """The compute nodes of a graph. `types` and `values` learn of its tensors, in its own scope."""
    types.update(tensor_types(graph))
    values.update({tensor.name: _Value(_stored(tensor.data_type), constant=True) for tensor in graph.initializer})
    for node in graph.node:
        kinds = _checked_types(node, types)
        bodies = list(attribute_graphs(node))
        if bodies:
            nodes, made = _scan_bodies(node, bodies, types, values)
            yield from nodes
        else:
            precision, value = _judged(node, kinds, values)
            made = [value] * len(node.output)
            if precision is not None:
                yield GraphNode(name=_name(node), kind=node.op_type, precision=precision)
        values.update(zip(node.output, made, strict=False))


def _scan_bodies(
    node: NodeProto, bodies: Sequence[GraphProto], types: _Types, values: _Values
) -> tuple[list[GraphNode], list[_Value]]:
    """The compute nodes of If, Loop or Scan, and what comes out of it."""
    if node.op_type == "If":
        taken = [_scan_body(body, (), types, values) for body in bodies]
        nodes = [found for branch, _ in taken for found in branch]
        return nodes, [_merged(each) for each in zip(*(made for _, made in taken), strict=True)]
    # Loop's body takes the iteration and the condition first, and gives the condition first.
    looped = node.op_type == "Loop"
    before, after = ([_NOTHING, _NOTHING], 1) if looped else ([], 0)
    given = [values.get(name, _NOTHING) for name in node.input[len(before) :]]
    scanned = next((attribute.i for attribute in node.attribute if attribute.name == "num_scan_inputs"), 0)
    states = len(given) - scanned
    while True:
        nodes, made = _scan_body(bodies[0], [*before, *given], types, values)
        carried = [_merged(pair) for pair in zip(given[:states], made[after : after + states], strict=True)]
        if carried == given[:states]:
            return nodes, [*carried, *made[after + states :]]
        given[:states] = carried


def _scan_body(
    body: GraphProto, given: Sequence[_Value], types: _Types, values: _Values
) -> tuple[list[GraphNode], list[_Value]]:
    inner = values.new_child({value.name: known for value, known in zip(body.input, given, strict=True)})
    nodes = list(_scan_graph(body, types.new_child(), inner))
    return nodes, [inner.get(value.name, _NOTHING) for value in body.output]


def _judged(node: NodeProto, kinds: Mapping[str, int], values: _Values) -> tuple[Precision | None, _Value]:
    """The precision of a node without bodies, None where it computes nothing, and what it makes."""
    read = [values.get(name, _NOTHING) if name else _NOTHING for name in node.input]
    constant = all(value.constant for name, value in zip(node.input, read, strict=True) if name)
    if node.op_type in _INTEGER_COMPUTE:
        return Precision.INT8, _Value(None, constant)
    if node.op_type in _NO_COMPUTE:
        return None, _Value(_moved(node, kinds, read, constant), constant)
    floats = [_FLOATS[kind] for kind in kinds.values() if kind in _FLOATS]
    if not floats:
        # Arithmetic on indices, unless the integers are quantized values.
        logical = all(kinds[name] == TensorProto.BOOL for name in node.output if name)
        held = None if logical else _coarsest(value.narrowest for value in read)
        return (held if held is not None and traits(held).quantized else None), _Value(held, constant)
    held = _coarsest(
        value.narrowest for name, value in zip(node.input, read, strict=True) if name and kinds[name] in _FLOATS
    )
    precision = _coarsest([*floats, held, *map(_FLOATS.get, _inner_types(node))])
    # What is computed from constants alone is a weight in the making.
    return precision, _Value(precision if constant else None, constant)


def _moved(node: NodeProto, kinds: Mapping[str, int], read: Sequence[_Value], constant: bool) -> Precision | None:
    """`narrowest` of what comes out of a node that computes nothing."""
    made = kinds.get(next(filter(None, node.output), ""), TensorProto.UNDEFINED)
    places = _VALUES.get(node.op_type, range(len(read)))
    held = _coarsest(read[place].narrowest for place in places if place < len(read))
    source = kinds.get(node.input[0], TensorProto.UNDEFINED) if node.input else TensorProto.UNDEFINED
    match node.op_type:
        case "Constant" | "ConstantOfShape" | "EyeLike":
            return _stored(made) if node.op_type == "Constant" else _FLOATS.get(made)
        case "QuantizeLinear" | "DynamicQuantizeLinear":
            return _INTEGERS.get(made, held)
        case "DequantizeLinear":
            if source not in _QUANTIZED:
                raise _unknown_type(node.input[0], node, source)
            return _INTEGERS.get(source, held)
        case "Cast" | "CastLike" if made in _FLOATS:
            if source in _SIXTEEN_BITS and constant:
                raise _unknown_type(node.input[0], node, source)
            return _coarsest([held, _FLOATS[made]])
        case "Cast" | "CastLike" if made in _INTEGERS and source in _FLOATS:
            return _INTEGERS[made]
        case "Cast" | "CastLike" if made == TensorProto.BOOL:
            return None
        case _:
            return held


def _checked_types(node: NodeProto, types: _Types) -> dict[str, int]:
    """Element type of every tensor that a node reads or writes, all of them known and allowed."""
    kinds = {name: types.get(name, TensorProto.UNDEFINED) for name in (*node.input, *node.output) if name}
    for name, kind in kinds.items():
        if kind == TensorProto.UNDEFINED and not _is_sequence(node):
            raise InvalidOnnx(
                expected=f"an element type for tensor {name!r} of {_label(node)}",
                found="type inference gave none",
                remedy="export the model with a newer exporter, or without vendor operators",
            )
        if kind != TensorProto.UNDEFINED and kind not in _NOT_FLOAT and kind not in _FLOATS:
            raise _unknown_type(name, node, kind)
    if not is_standard(node):
        # Inference knows its tensors only where another node states their types; what it does inside stays unknown.
        raise UnsupportedOperator(
            expected="operators of ONNX's own domain, whose precision can be read",
            found=f"{node.domain}.{node.op_type} in {_label(node)}",
            remedy="export the model without vendor operators",
        )
    for kind in _inner_types(node):
        if kind not in _FLOATS:
            raise _unknown_type("inside", node, kind)
    return kinds


def _inner_types(node: NodeProto) -> list[int]:
    stated = [attribute.i for attribute in node.attribute if attribute.name in _INNER_TYPES]
    return [kind for kind in stated if kind != TensorProto.UNDEFINED]


def _stored(kind: int) -> Precision | None:
    """What constants of an element type are held in; None for integers that are not quantized values."""
    return _INTEGERS.get(kind, _FLOATS.get(kind))


def _merged(values: Iterable[_Value]) -> _Value:
    several = list(values)
    return _Value(_coarsest(value.narrowest for value in several), all(value.constant for value in several))


def _coarsest(found: Iterable[Precision | None]) -> Precision | None:
    return max((precision for precision in found if precision is not None), key=width, default=None)


def _is_sequence(node: NodeProto) -> bool:
    return "Sequence" in node.op_type


def _unknown_type(name: str, node: NodeProto, kind: int) -> UnsupportedOperator:
    return UnsupportedOperator(
        expected="tensors of float32, float16, int8 or plain integers",
        found=f"{TensorProto.DataType.Name(kind)} in tensor {name!r} of {_label(node)}",
        remedy="export the model in float32; Regiolect types FP16 and INT8 itself",
    )


def _name(node: NodeProto) -> str:
    return node.name or node.output[0]


def _label(node: NodeProto) -> str:
    return f"{node.op_type} {node.name or node.output[0]!r}"

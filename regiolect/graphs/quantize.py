"""INT8: explicit QuantizeLinear and DequantizeLinear nodes from a calibration table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from regiolect.contracts import Precision, TensorRange
from regiolect.errors import InvalidOnnx, UnsupportedOperator
from regiolect.graphs.known import Known
from regiolect.graphs.protos import (
    MOVES_ONE_INPUT,
    attributes,
    channel_axis,
    checked_types,
    constants,
    dequantizer_of,
    drop_unread,
    is_standard,
    producers,
    reads,
    with_opset,
)
from regiolect.graphs.qdq import Names, Writer, insert, least_for_bias, range_of
from regiolect.graphs.refit import off_middle, refit
from regiolect.graphs.scan import typed_nodes
from regiolect.graphs.unsigned import unsigned
from regiolect.precision import Recipe

_OPERANDS = (0, 1)


@dataclass(frozen=True)
class Operand:
    """One input of one node that is to be quantized. `axis` is the output channels', None for one scale in all."""

    node: int
    position: int
    tensor: str
    constant: bool
    axis: int | None = None


@dataclass(frozen=True)
class Twin:
    """An operator on its true inputs and its twin on quantized ones: the first output of each."""

    kind: str
    output: str
    quantized: str


def quantizable(model: ModelProto, recipe: Recipe) -> tuple[str, ...]:
    """First outputs of the operators that INT8 applies to in a normalized FP32 model, in graph order.

    They are the operators of the recipe and, with residual_add, the additions beside them; none that keeps the scales
    that it arrived with.

    Raises:
        InvalidOnnx: the model fails the full check.
    """
    operands = plan_operands(model, recipe)
    return tuple(model.graph.node[index].output[0] for index in dict.fromkeys(operand.node for operand in operands))


def plan_operands(model: ModelProto, recipe: Recipe, wider: Collection[str] = ()) -> tuple[Operand, ...]:
    """What `recipe` quantizes in a normalized FP32 model, in graph order.

    The first two inputs of each operator of the recipe and, with residual_add, both inputs of an Add that reads no
    constant and reads such an operator's output directly. What nodes make of constants alone is a constant.

    Left out are the operators whose first output is in `wider`, tensors that are not float32 and those that already
    come from a DequantizeLinear: a model trained with quantization keeps its own scales, in wider operators too.
    Subgraphs of control flow and operators of other domains stay as they are.

    No integer kernel takes scales that differ along what an operator sums: with the other operand quantized runtimes
    fail, or answer wrongly. Weights that arrive with a scale for each row are quantized anew, and so are batches of
    matrices with one for each column where the recipe wants them with one in all; an operator that reads anything else
    of the kind, such as scales by blocks, is left out with all its operands.

    Raises:
        InvalidOnnx: the model fails the full check.
    """
    graph = model.graph
    types, made_by, known = checked_types(model), producers(graph), Known(model)
    found: list[Operand] = []
    quantized_outputs: set[str] = set()
    for index, node in enumerate(graph.node):
        if not is_standard(node) or node.output[0] in wider:
            continue
        inputs = [(position, node.input[position]) for position in _OPERANDS if position < len(node.input)]
        wanted, remade = node.op_type in recipe.operators, set[str]()
        if wanted and all(types.get(name) == TensorProto.FLOAT for _, name in inputs):
            remade = {name for position, name in inputs if _scaled_along_sum(node, position, made_by, known, recipe)}
            if any(_has_blocks(name, made_by) or known.get(name) is None for name in remade):
                continue
            quantized_outputs.update(node.output)
        elif recipe.residual_add and node.op_type == "Add":
            names = {name for _, name in inputs}
            wanted = not any(name in known for name in names) and bool(names & quantized_outputs)
        else:
            wanted = False
        for position, name in inputs if wanted else ():
            if name in remade or dequantizer_of(name, made_by) is None:
                weight = known.get(name)
                rank = 0 if weight is None else len(weight.dims)
                axis = channel_axis(node, position, rank, recipe.columns_of_batches)
                found.append(Operand(index, position, name, weight is not None, axis))
    return tuple(found)


def _scaled_along_sum(
    node: NodeProto, position: int, made_by: dict[str, NodeProto], known: Known, recipe: Recipe
) -> bool:
    """Whether an operand comes from a DequantizeLinear with several scales that are not those of output channels."""
    moves, made = [], made_by.get(node.input[position])
    while made is not None and made.op_type in MOVES_ONE_INPUT and is_standard(made):
        moves.append(made)
        made = made_by.get(made.input[0])
    if made is None or made.op_type != "DequantizeLinear":
        return False
    if _has_blocks(made.output[0], made_by):
        return True
    scale, packed = known.get(made.input[1]), known.get(made.input[0])
    if scale is None or np.prod(scale.dims) == 1:
        return False
    if packed is None:
        return True
    # Which scale each value has, moved as the values are.
    shape = [1] * len(packed.dims)
    shape[attributes(made).get("axis", 1)] = -1
    which = np.broadcast_to(np.arange(np.prod(scale.dims), dtype=np.int32).reshape(shape), packed.dims)
    for move in reversed(moves):
        moved = known.get(move.output[0])
        if moved is None:
            return True
        turned = move.op_type == "Transpose"
        which = which.transpose(attributes(move).get("perm")) if turned else which.reshape(tuple(moved.dims))
    channel = channel_axis(node, position, which.ndim, recipe.columns_of_batches)
    first = which[tuple(slice(None if axis == channel else 1) for axis in range(which.ndim))]
    return not np.array_equal(which, np.broadcast_to(first, which.shape))


def _has_blocks(name: str, made_by: dict[str, NodeProto]) -> bool:
    dequantize = dequantizer_of(name, made_by)
    return dequantize is not None and bool(attributes(dequantize).get("block_size", 0))


def quantized(
    model: ModelProto, recipe: Recipe, ranges: Mapping[str, TensorRange], wider: Collection[str] = ()
) -> ModelProto:
    """A normalized FP32 model with the recipe's operands quantized; the rest stays float32.

    One Q/DQ pair per activation serves all its quantized readers; every other reader keeps the float tensor. Weights
    become int8 with a DequantizeLinear, symmetric, one scale per output channel (`qdq.weight_scales`), or in all where
    the recipe wants that of batches of matrices, and larger where an integer bias needs it (`qdq.least_for_bias`).
    Scales are float32; where the recipe's remainder is FP16 each is one that float16 holds exactly, rounded up so that
    nothing in range is clipped. Q/DQ nodes that the model arrives with are rewritten where the recipe asks for pairs
    that fit into int16 (`refit`, `unsigned`), and there no second factor of a product is one that OpenVINO would take
    for int8 (`off_middle`).

    Args:
        model: a normalized model.
        recipe: what is quantized, and how.
        ranges: each activation's range, by tensor name.
        wider: first outputs of operators that stay float32.

    Raises:
        MissingThreshold: an activation is not in `ranges`.
        UnsupportedOperator: nothing to quantize, or an opset before Q/DQ per channel that cannot be raised.
        PrecisionOverflow: a scale beyond its type's range.
        InvalidOnnx: the model fails the full check, or a weight is not finite.
    """
    result, operands = _planned(model, recipe, wider)
    graph = result.graph
    nodes = {operand.node: graph.node[operand.node] for operand in operands}
    computed = {operand.tensor for operand in operands if operand.constant} - constants(graph).keys()
    insert(graph, _redirected(result, nodes, operands, recipe, ranges))
    if computed:
        drop_unread(graph)
    if recipe.pairs_in_int16:
        off_middle(result)
    return result


def with_twins(
    model: ModelProto, recipe: Recipe, ranges: Mapping[str, TensorRange]
) -> tuple[ModelProto, tuple[Twin, ...]]:
    """A normalized FP32 model as it is, with a twin beside each operator that INT8 applies to.

    A twin reads what its operator reads, quantized and dequantized as `quantized` would write it, so that the two
    outputs differ by what quantizing this operator alone does, on true inputs. Twins come in graph order, right behind
    their operators. Errors as of `quantized`.
    """
    result, operands = _planned(model, recipe, ())
    graph = result.graph
    names, twins, nodes = Names(graph), [], {}
    for index in dict.fromkeys(operand.node for operand in operands):
        node = graph.node[index]
        twin = NodeProto.FromString(node.SerializeToString())
        for position, name in enumerate(node.output):
            twin.output[position] = names.new(f"{name}_twin") if name else ""
        twin.name = names.new(f"{node.name or node.output[0]}_twin")
        nodes[index] = twin
        twins.append(Twin(kind=node.op_type, output=node.output[0], quantized=twin.output[0]))
    writer = _redirected(result, nodes, operands, recipe, ranges, names)
    writer.replaced.clear()
    for index in reversed(nodes):
        graph.node.insert(index + 1, nodes[index])
    insert(graph, writer)
    return result, tuple(twins)


def _planned(model: ModelProto, recipe: Recipe, wider: Collection[str]) -> tuple[ModelProto, tuple[Operand, ...]]:
    """A copy of the model in an opset that can be quantized, and its operands."""
    result = ModelProto()
    result.CopyFrom(with_opset(model, 13, "QuantizeLinear and DequantizeLinear per channel"))
    if recipe.pairs_in_int16:
        result = unsigned(result, every=True)
        refit(result)
    operands = plan_operands(result, recipe, wider)
    if not operands and not _holds_integers(result):
        raise UnsupportedOperator(
            expected=f"at least one float32 {', '.join(recipe.operators)} to quantize in graph {result.graph.name!r}",
            found=f"none beside the {len(wider)} that are left out" if wider else "none",
            remedy="give the region FP16 or FP32: INT8 would change nothing in this model",
        )
    return result, operands


def _holds_integers(model: ModelProto) -> bool:
    """Whether a model arrives with anything in INT8, as the attestation counts it."""
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return True
    try:
        return any(node.precision is Precision.INT8 for node in typed_nodes(model))
    except (InvalidOnnx, UnsupportedOperator):
        # Then a graph of another precision says why.
        return False


def _redirected(
    model: ModelProto,
    nodes: Mapping[int, NodeProto],
    operands: tuple[Operand, ...],
    recipe: Recipe,
    ranges: Mapping[str, TensorRange],
    names: Names | None = None,
) -> Writer:
    """Let `nodes`, by their operator's index, read quantized operands; the writer holds what they read."""
    held = constants(model.graph)
    known = Known(model)
    weights = {each.tensor: known.get(each.tensor) for each in operands if each.constant}
    held |= {name: tensor for name, tensor in weights.items() if tensor is not None}
    scale_type = np.float16 if recipe.remainder is Precision.FP16 else np.float32
    writer = Writer(names or Names(model.graph), scale_type, recipe.pairs_in_int16)
    biases = _biases(model.graph, held) if recipe.integer_bias else {}
    for operand in operands:
        if operand.constant:
            least = _least(operand, held, biases.get(operand.node), writer.scales.get(nodes[operand.node].input[0]))
            replacement = writer.weight(held[operand.tensor], operand.tensor, operand.axis, least)
        else:
            signed = recipe.activation == "int8"
            replacement = writer.activation(operand.tensor, range_of(operand.tensor, ranges), signed)
        nodes[operand.node].input[operand.position] = replacement
    if recipe.integer_bias:
        for node in nodes.values():
            _quantize_bias(node, held, writer)
    return writer


def _biases(graph: GraphProto, held: Mapping[str, TensorProto]) -> dict[int, NDArray[Any]]:
    """What is added to each operator's output as its bias, by the operator's index.

    ONNX Runtime makes an integer of it, whether it is written as one or not: also of a convolution's, and of what is
    added to a matrix product right behind it.
    """
    uses = Counter(name for node in graph.node for name in reads(node))
    uses.update(value.name for value in graph.output)
    added = {
        one: other
        for node in graph.node
        if is_standard(node) and node.op_type == "Add"
        for one, other in (tuple(node.input), tuple(reversed(node.input)))
        if uses[one] == 1 and other in held
    }
    found = {}
    for index, node in enumerate(graph.node):
        name = added.get(node.output[0]) if node.op_type == "MatMul" else next(iter(node.input[2:]), None)
        if is_standard(node) and name is not None and name in held:
            found[index] = numpy_helper.to_array(held[name]).ravel()
    return found


def _least(
    operand: Operand, held: Mapping[str, TensorProto], bias: NDArray[Any] | None, data_scale: NDArray[Any] | None
) -> NDArray[np.float64] | None:
    """What the scales of a constant operand have to be for the bias of its operator, per channel; None for anything."""
    if operand.axis is None or bias is None or data_scale is None:
        return None
    channels = held[operand.tensor].dims[operand.axis]
    return least_for_bias(np.broadcast_to(bias, channels), data_scale) if bias.size in (1, channels) else None


def _quantize_bias(node: NodeProto, held: Mapping[str, TensorProto], writer: Writer) -> None:
    """Give a Gemm whose operands this pass quantized an int32 bias, where it is one value per output channel."""
    given = attributes(node)
    plain = given.get("alpha", 1.0) == 1.0 == given.get("beta", 1.0) and not given.get("transA", 0)
    if node.op_type != "Gemm" or not plain or len(node.input) < 3 or node.input[2] not in held:
        return
    if node.input[0] in writer.scales and node.input[1] in writer.scales:
        node.input[2] = writer.bias(held[node.input[2]], node.input[2], node.input[0], node.input[1])

"""What every step on ONNX protos needs: reading, checking, normal form, types, order, bytes."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto, numpy_helper
from onnx.version_converter import ConvertError, convert_version

from regiolect.errors import InvalidOnnx, UnsupportedOperator
from regiolect.host.files import PROTOBUF, open_file

_DEFAULT_DOMAINS = ("", "ai.onnx")
_LARGE_WEIGHT = 1 << 12  # bytes
# Operators that only move values: a quantized tensor stays quantized through them.
MOVES_ONE_INPUT = frozenset({"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def load(path: Path) -> ModelProto:
    """Read an ONNX file.

    Raises:
        InvalidOnnx: truncated, or not ONNX.
    """
    try:
        # Parsed where it lies: reading the file first would hold its weights twice.
        with (
            open_file(path, PROTOBUF) as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
            memoryview(data) as view,
        ):
            model: ModelProto = ModelProto.FromString(view)
    except (DecodeError, ValueError) as error:
        raise InvalidOnnx(
            expected=f"an ONNX model at {path}",
            found=f"{error} ({type(error).__name__})",
            remedy="the file is truncated or of another format: export the model again",
        ) from error
    if not model.graph.node:
        raise InvalidOnnx(
            expected=f"an ONNX model with nodes at {path}",
            found="an empty graph",
            remedy="the file is truncated or of another format: export the model again",
        )
    return model


def check(model: ModelProto) -> ModelProto:
    """ONNX's full check, then strict type and shape inference; the inferred model is returned.

    Raises:
        InvalidOnnx: either refuses.
    """
    light = _inferred_without_weights(model)
    inputs = {value.name for value in model.graph.input}
    kept = [ValueInfoProto.FromString(value.SerializeToString()) for value in light.graph.input if value.name in inputs]
    del light.graph.input[:], light.graph.initializer[:]
    light.graph.input.extend(kept)
    light.graph.initializer.extend(model.graph.initializer)
    return light


def checked_types(model: ModelProto) -> dict[str, int]:
    """Element type of every tensor of a model that passes `check`, by name, at no cost in memory.

    Raises:
        InvalidOnnx: the check refuses.
    """
    return tensor_types(_inferred_without_weights(model).graph) | {
        name: tensor.data_type for name, tensor in constants(model.graph).items()
    }


def infer_shapes(model: ModelProto, strict: bool = False) -> ModelProto:
    """A copy of the model with the types and shapes that ONNX tells, behind a GroupNormalization as well.

    Args:
        model: the model.
        strict: whether the copy must be right in every node.

    Raises:
        onnx.shape_inference.InferenceError, ValueError: a node is wrong, or ONNX cannot read the model.
    """
    at = [place for place, node in enumerate(model.graph.node) if _is_shapeless(node)]
    if at:
        given, model = model, ModelProto()
        model.CopyFrom(given)
    for place in at:
        # It has the same inputs and gives back the shape of the first.
        model.graph.node[place].op_type = "InstanceNormalization"
    inferred = onnx.shape_inference.infer_shapes(model, check_type=strict, strict_mode=strict, data_prop=True)
    for place in at:
        inferred.graph.node[place].op_type = "GroupNormalization"
    return inferred


def _is_shapeless(node: NodeProto) -> bool:
    # ONNX tells no shape of its result, and none of anything behind it.
    return node.op_type == "GroupNormalization" and is_standard(node)


def _inferred_without_weights(model: ModelProto) -> ModelProto:
    """The checked and inferred model with its large weights as inputs.

    ONNX serializes all that it checks, several times.
    """
    light, large = _without_weights(model)
    try:
        for tensor in large:
            _check_weight(tensor)
        onnx.checker.check_model(light, full_check=True)
        return infer_shapes(light, strict=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InvalidOnnx(
            expected=f"graph {model.graph.name!r} to pass ONNX's full check with strict type inference",
            found=reason[:500],
            remedy="export the model with a newer exporter or opset; the message names the node",
        ) from error


def inferred_types(model: ModelProto) -> dict[str, int]:
    """Element types of a model's tensors, by name, as far as ONNX tells them; nothing is checked."""
    return tensor_types(infer_shapes(_without_weights(model)[0]).graph)


def inferred_ranks(model: ModelProto) -> dict[str, int]:
    """Numbers of dimensions of what a model's nodes read and make, by name, as far as ONNX tells them."""
    graph = infer_shapes(_without_weights(model)[0]).graph
    values = (*graph.input, *graph.output, *graph.value_info)
    found = {value.name: value.type.tensor_type for value in values if value.type.HasField("tensor_type")}
    return {name: len(kind.shape.dim) for name, kind in found.items() if kind.HasField("shape")}


def _without_weights(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """The model with its large weights as inputs, and these. Small ones stay: shapes are computed from them."""
    large = [tensor for tensor in model.graph.initializer if tensor.ByteSize() > _LARGE_WEIGHT]
    weights, inputs = {tensor.name for tensor in large}, {value.name for value in model.graph.input}
    light = ModelProto()
    _copy_fields(model, light, without="graph")
    _copy_fields(model.graph, light.graph, without="initializer")
    light.graph.initializer.extend(tensor for tensor in model.graph.initializer if tensor.name not in weights)
    light.graph.input.extend(
        onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        for tensor in large
        if tensor.name not in inputs
    )
    return light, large


def _check_weight(tensor: TensorProto) -> None:
    """What ONNX's checker asks of a tensor, and that its bytes are as many as its shape says.

    Raw bytes, as every exporter writes weights, are looked at where they are: the checker would copy them.

    Raises:
        onnx.checker.ValidationError, ValueError: it is no tensor.
    """
    if [field.name for field, _ in tensor.ListFields() if field.name.endswith("_data")] != ["raw_data"]:
        onnx.checker.check_tensor(tensor)
    numpy_helper.to_array(tensor)


def _copy_fields(source: Message, target: Message, without: str) -> None:
    for field, value in source.ListFields():
        if field.name == without:
            continue
        if field.is_repeated:
            getattr(target, field.name).extend(value)
        elif field.message_type:
            getattr(target, field.name).CopyFrom(value)
        else:
            setattr(target, field.name, value)


def inlined(model: ModelProto) -> ModelProto:
    """The model with calls of its local functions replaced by their bodies; itself if it has none."""
    return onnx.inliner.inline_local_functions(model) if model.functions else model


def normalized(model: ModelProto) -> ModelProto:
    """The same model in the one form that later steps handle; itself if it has that form.

    Local functions are inlined, weights are no graph inputs, and each float Constant holds a tensor.
    """
    plain = inlined(model)
    held = {tensor.name for tensor in plain.graph.initializer}
    inputs = [value for value in plain.graph.input if value.name not in held]
    loose = [node for graph in graphs(plain.graph) for node in graph.node if _holds_floats(node)]
    version = max(plain.ir_version, onnx.helper.find_min_ir_version_for(list(plain.opset_import), True), 4)
    if not loose and len(inputs) == len(plain.graph.input) and version == plain.ir_version:
        return plain
    result = ModelProto()
    result.CopyFrom(plain)
    del result.graph.input[:]
    result.graph.input.extend(inputs)
    for graph in graphs(result.graph):
        for node in graph.node:
            if _holds_floats(node):
                value = np.asarray(onnx.helper.get_attribute_value(node.attribute[0]), np.float32)
                node.attribute[0].CopyFrom(onnx.helper.make_attribute("value", numpy_helper.from_array(value)))
    result.ir_version = version
    return result


def _holds_floats(node: NodeProto) -> bool:
    return (
        node.op_type == "Constant" and is_standard(node) and node.attribute[0].name in ("value_float", "value_floats")
    )


def is_standard(node: NodeProto) -> bool:
    """Whether a node is of ONNX's own domain."""
    return node.domain in _DEFAULT_DOMAINS


def attributes(node: NodeProto) -> dict[str, Any]:
    """A node's attributes by name, as Python's own types, NumPy's or ONNX's."""
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def channel_axis(node: NodeProto, place: int, rank: int, of_batches: bool) -> int | None:
    """Axis of the output channels of a Conv's, Gemm's or MatMul's constant operand; None where one scale must serve for
    all of it.

    Args:
        place: of the operand among the node's inputs.
        rank: of the operand.
        of_batches: whether the columns of a batch of matrices count.
    """
    if place != 1 or rank < 2:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attributes(node).get("transB", 0) else 1
    return rank - 1 if node.op_type == "MatMul" and (rank == 2 or of_batches) else None


def attribute_graphs(node: NodeProto) -> Iterator[GraphProto]:
    """The subgraphs that a node holds: branches of If, bodies of Loop and Scan."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """A graph and every subgraph in it."""
    yield graph
    for node in graph.node:
        for inner in attribute_graphs(node):
            yield from graphs(inner)


def reads(node: NodeProto) -> set[str]:
    """Names that a node reads, those that its subgraphs take from outside among them."""
    names = {name for name in node.input if name}
    for inner in attribute_graphs(node):
        made = {value.name for value in inner.input} | {tensor.name for tensor in inner.initializer}
        made |= {name for child in inner.node for name in child.output}
        names |= {name for child in inner.node for name in reads(child)} - made
        names |= {value.name for value in inner.output} - made
    return names


def tensor_types(graph: GraphProto) -> dict[str, int]:
    """Element type of every tensor that an inferred graph knows of, by name; sequences and maps are left out."""
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.HasField("tensor_type")
    }
    return types | {tensor.name: tensor.data_type for tensor in graph.initializer}


def producers(graph: GraphProto) -> dict[str, NodeProto]:
    """The node that makes each tensor."""
    return {name: node for node in graph.node for name in node.output if name}


def constants(graph: GraphProto) -> dict[str, TensorProto]:
    """Initializers and the tensors of Constant nodes, by name."""
    held = {tensor.name: tensor for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and is_standard(node) and node.attribute[0].name == "value":
            held[node.output[0]] = node.attribute[0].t
    return held


def dequantizer_of(name: str, made_by: dict[str, NodeProto]) -> NodeProto | None:
    """The DequantizeLinear that a tensor comes from, directly or through nodes that only move values."""
    node = made_by.get(name)
    while node is not None and node.op_type in MOVES_ONE_INPUT and is_standard(node):
        node = made_by.get(node.input[0])
    return node if node is not None and node.op_type == "DequantizeLinear" else None


def opset(model: ModelProto) -> int:
    """Version of ONNX's own operator set that a model asks for."""
    return max((entry.version for entry in model.opset_import if entry.domain in _DEFAULT_DOMAINS), default=1)


def with_opset(model: ModelProto, least: int, reason: str) -> ModelProto:
    """The model itself if its opset is `least` or later, else the model converted to `least`.

    Raises:
        UnsupportedOperator: ONNX's converter cannot raise it.
    """
    found = opset(model)
    if found >= least:
        return model
    try:
        raised = convert_version(model, least)
    except (ConvertError, RuntimeError) as error:
        raise UnsupportedOperator(
            expected=f"opset {least} or later, for {reason}",
            found=f"opset {found}, which the converter cannot raise: {error}",
            remedy=f"export the model with opset_version={least}",
        ) from error
    # The converter writes its own newest version, which runtimes of the same day may not read yet.
    raised.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(list(raised.opset_import), True))
    return raised


def sort_nodes(graph: GraphProto) -> None:
    """Put nodes in an order in which each reads only what came before; otherwise as they were.

    Raises:
        InvalidOnnx: the graph has a cycle.
    """
    made_by = {name: index for index, node in enumerate(graph.node) for name in node.output if name}
    order: list[int] = []
    placed: set[int] = set()
    opened: set[int] = set()
    stack = list(range(len(graph.node)))[::-1]
    while stack:
        index = stack[-1]
        if index in placed:
            stack.pop()
            continue
        needed = {made_by[name] for name in reads(graph.node[index]) if name in made_by} - placed
        if not needed:
            order.append(stack.pop())
            placed.add(index)
        elif index in opened:
            raise InvalidOnnx(
                expected=f"graph {graph.name!r} without cycles",
                found=f"node {graph.node[index].name!r} that waits for itself",
                remedy="export the model again",
            )
        else:
            opened.add(index)
            stack.extend(sorted(needed, reverse=True))
    nodes = [graph.node[index] for index in order]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(copies)


def drop_unread(graph: GraphProto) -> None:
    """Take out nodes and initializers that no output needs, and what the graph says of the types of what they made."""
    needed, inputs = {value.name for value in graph.output}, {value.name for value in graph.input}
    for place in reversed(range(len(graph.node))):
        if needed.isdisjoint(graph.node[place].output):
            del graph.node[place]
        else:
            needed |= reads(graph.node[place])
    for tensors, kept in ((graph.initializer, needed | inputs), (graph.value_info, needed)):
        for place in reversed(range(len(tensors))):
            if tensors[place].name not in kept:
                del tensors[place]


def to_bytes(model: ModelProto) -> bytes:
    """Serialized, map entries sorted: equal models give equal bytes."""
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized

"""INT8: explicit QuantizeLinear and DequantizeLinear nodes from a calibration table.

Scales and zero points follow the affine scheme of the ONNX operators: real = (quantized - zero_point) * scale.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from regiolect.contracts import Precision, TensorRange
from regiolect.errors import InvalidOnnx, MissingThreshold, PrecisionOverflow, UnsupportedOperator
from regiolect.graphs.protos import (
    check,
    constants,
    dequantizer_of,
    graphs,
    is_standard,
    producers,
    reads,
    tensor_types,
    with_opset,
)
from regiolect.precision import Recipe

# Scale of a tensor that was zero in every calibration sample: any positive one represents it. The smallest normal
# float16 is also safe to invert in float16, where a smaller one would give infinity and then 0 * inf = NaN.
ALWAYS_ZERO_SCALE = 2.0**-14
_OPERANDS = (0, 1)


@dataclass(frozen=True)
class Operand:
    """One input of one node that is to be quantized. `axis` is the output channels', None for one scale in all."""

    node: int
    position: int
    tensor: str
    constant: bool
    axis: int | None = None


def plan_operands(model: ModelProto, recipe: Recipe) -> tuple[Operand, ...]:
    """What `recipe` quantizes in a normalized FP32 model, in graph order.

    The first two inputs of each operator of the recipe and, with residual_add, both inputs of an Add that reads no
    constant and reads such an operator's output directly. Left out are tensors that are not float32 and those that
    already come from a DequantizeLinear: a model trained with quantization keeps its own scales. Subgraphs of
    control flow stay as they are.

    Raises:
        InvalidOnnx: the model fails the full check.
    """
    graph = check(model).graph
    types, made_by, held = tensor_types(graph), producers(graph), constants(graph)
    types |= {name: tensor.data_type for name, tensor in held.items()}
    found: list[Operand] = []
    quantized_outputs: set[str] = set()
    for index, node in enumerate(graph.node):
        if not is_standard(node):
            continue
        inputs = [(position, node.input[position]) for position in _OPERANDS if position < len(node.input)]
        wanted = node.op_type in recipe.operators
        if wanted and all(types.get(name) == TensorProto.FLOAT for _, name in inputs):
            quantized_outputs.update(node.output)
        elif recipe.residual_add and node.op_type == "Add":
            names = {name for _, name in inputs}
            wanted = not names & held.keys() and bool(names & quantized_outputs)
        else:
            wanted = False
        for position, name in inputs if wanted else ():
            if dequantizer_of(name, made_by) is None:
                axis = _channel_axis(node, position, held[name]) if name in held else None
                found.append(Operand(index, position, name, name in held, axis))
    return tuple(found)


def _channel_axis(node: NodeProto, position: int, weight: TensorProto) -> int | None:
    """Axis of the output channels of a constant operand; None where one scale must serve for all of it."""
    if position != 1 or len(weight.dims) < 2:
        return None
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        transposed = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
        return 0 if transposed else 1
    return len(weight.dims) - 1 if node.op_type == "MatMul" else None


def quantized(model: ModelProto, recipe: Recipe, ranges: Mapping[str, TensorRange]) -> ModelProto:
    """A normalized FP32 model with the recipe's operands quantized; the rest stays float32.

    One Q/DQ pair per activation serves all its quantized readers; every other reader keeps the float tensor. Weights
    become int8 with a DequantizeLinear, symmetric, one scale per output channel of max|w| / 127 (1 for a channel of
    zeros). Scales are float32; where the recipe's remainder is FP16 each is one that float16 holds exactly, rounded
    up so that nothing in range is clipped.

    Raises:
        MissingThreshold: an activation is not in `ranges`.
        UnsupportedOperator: nothing to quantize, or an opset before Q/DQ per channel that cannot be raised.
        PrecisionOverflow: a scale beyond its type's range.
        InvalidOnnx: the model fails the full check, or a weight is not finite.
    """
    model = with_opset(model, 13, "QuantizeLinear and DequantizeLinear per channel")
    operands = plan_operands(model, recipe)
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    if not operands and not any(node.op_type == "DequantizeLinear" for node in graph.node):
        raise UnsupportedOperator(
            expected=f"at least one float32 {', '.join(recipe.operators)} to quantize in graph {graph.name!r}",
            found="none",
            remedy="give the region FP16 or FP32: INT8 would change nothing in this model",
        )
    held = constants(graph)
    scale_type = np.float16 if recipe.remainder is Precision.FP16 else np.float32
    writer = _Writer(names=_used_names(graph), scale_type=scale_type)
    for operand in operands:
        node = graph.node[operand.node]
        if operand.constant:
            replacement = writer.weight(held[operand.tensor], operand.tensor, operand.axis)
        else:
            signed = recipe.activation == "int8"
            replacement = writer.activation(operand.tensor, _range_of(operand.tensor, ranges), signed)
        node.input[operand.position] = replacement
    if recipe.integer_bias:
        for node in graph.node:
            _quantize_bias(node, held, writer)
    _insert(graph, writer)
    return result


def _quantize_bias(node: NodeProto, held: Mapping[str, TensorProto], writer: _Writer) -> None:
    """Give a Gemm whose operands this pass quantized an int32 bias, where it is one value per output channel."""
    attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
    plain = attributes.get("alpha", 1.0) == 1.0 == attributes.get("beta", 1.0) and not attributes.get("transA", 0)
    if node.op_type != "Gemm" or not plain or len(node.input) < 3 or node.input[2] not in held:
        return
    if node.input[0] in writer.scales and node.input[1] in writer.scales:
        node.input[2] = writer.bias(held[node.input[2]], node.input[2], node.input[0], node.input[1])


def _range_of(tensor: str, ranges: Mapping[str, TensorRange]) -> TensorRange:
    if tensor not in ranges:
        near = difflib.get_close_matches(tensor, list(ranges), n=3, cutoff=0.0)
        raise MissingThreshold(
            expected=f"a threshold for tensor {tensor!r}",
            found=f"a table of {len(ranges)} tensors; nearest names: {', '.join(map(repr, near)) or 'none'}",
            remedy="calibrate this very graph again: the table was made from one with other tensors",
        )
    return ranges[tensor]


def activation_scale(observed: TensorRange, signed: bool, scale_type: type[np.floating[Any]]) -> tuple[np.float32, int]:
    """Scale and zero point of a tensor.

    signed: int8, zero point 0, scale threshold / 127. Otherwise uint8: a tensor that was never negative has zero point
    0 and scale threshold / 255; any other zero point 128 and scale threshold / 127, so that -threshold to threshold
    fits. A tensor that was always zero gets ALWAYS_ZERO_SCALE.

    Raises:
        PrecisionOverflow: the scale is beyond the range of `scale_type`.
    """
    one_sided = not signed and observed.minimum >= 0
    zero_point = 0 if signed or one_sided else 128
    if observed.threshold == 0:
        return np.float32(ALWAYS_ZERO_SCALE), zero_point
    scale = np.float64(observed.threshold) / (255 if one_sided else 127)
    return np.float32(_round_up(np.asarray(scale), scale_type)[()]), zero_point


def weight_scales(weight: NDArray[np.float32], axis: int | None, scale_type: type[np.floating[Any]]) -> NDArray[Any]:
    """max|w| / 127, per index of `axis` or for the whole tensor; 1 where all is zero.

    Raises:
        PrecisionOverflow: a scale is beyond the range of `scale_type`.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis) if axis is not None else None
    largest = np.abs(weight).max(axis=others, initial=0.0).astype(np.float64)
    return _round_up(np.where(largest > 0, largest / 127, 1.0), scale_type).astype(np.float32)


def _round_up(scales: NDArray[Any], scale_type: type[np.floating[Any]]) -> NDArray[Any]:
    """Each scale as the next `scale_type` that is not smaller.

    Float32 scales stay normal, for kernels multiply by their inverse. Float16's are small enough to need subnormals.
    """
    info = np.finfo(scale_type)
    least = info.tiny if scale_type is np.float32 else info.smallest_subnormal
    if not np.all(scales <= float(info.max)):
        raise PrecisionOverflow(
            expected=f"scales within the range of {np.dtype(scale_type).name}, at most {float(info.max):g}",
            found=f"{float(np.max(scales)):g}",
            remedy="look for an exploding layer in the model, or give the region FP32",
        )
    near = np.asarray(scales, scale_type)
    rounded = np.where(near.astype(np.float64) < scales, np.nextafter(near, scale_type(np.inf)), near)
    return np.maximum(rounded, least)


def _used_names(graph: GraphProto) -> set[str]:
    names: set[str] = set()
    for inner in graphs(graph):
        names.update(value.name for value in (*inner.input, *inner.output, *inner.value_info))
        names.update(tensor.name for tensor in inner.initializer)
        for node in inner.node:
            names.update((node.name, *node.input, *node.output))
    return names


@dataclass
class _Writer:
    """Makes Q/DQ nodes and their constants, once for each tensor."""

    names: set[str]
    scale_type: type[np.floating[Any]]
    initializers: list[TensorProto] = field(default_factory=list)
    first: list[NodeProto] = field(default_factory=list)
    after: dict[str, list[NodeProto]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    made: dict[tuple[str, int | None], str] = field(default_factory=dict)
    scales: dict[str, NDArray[Any]] = field(default_factory=dict)

    def activation(self, tensor: str, observed: TensorRange, signed: bool) -> str:
        """Name of the dequantized twin of an activation."""
        if (tensor, None) not in self.made:
            scale, zero_point = activation_scale(observed, signed, self.scale_type)
            kind = np.int8 if signed else np.uint8
            constants = self._constants(tensor, np.asarray(scale), np.asarray(zero_point, kind))
            packed, twin = self._name(f"{tensor}_quantized"), self._name(f"{tensor}_dequantized")
            self.after[tensor] = [
                self._node("QuantizeLinear", [tensor, *constants], packed),
                self._node("DequantizeLinear", [packed, *constants], twin),
            ]
            self.made[tensor, None] = twin
            self.scales[twin] = np.asarray(scale)
        return self.made[tensor, None]

    def weight(self, tensor: TensorProto, name: str, axis: int | None) -> str:
        """Name of the dequantized twin of a constant."""
        if (name, axis) not in self.made:
            values = numpy_helper.to_array(tensor)
            if not np.isfinite(values).all():
                raise InvalidOnnx(
                    expected=f"finite weights in {name!r}",
                    found=f"{int((~np.isfinite(values)).sum())} that are NaN or infinite",
                    remedy="train or export the model again",
                )
            scales = weight_scales(values, axis, self.scale_type)
            shape = [-1 if index == axis else 1 for index in range(values.ndim)]
            steps = np.rint(values.astype(np.float64) / (scales.reshape(shape) if axis is not None else scales))
            packed = self._initializer(f"{name}_quantized", np.clip(steps, -127, 127).astype(np.int8))
            constants = self._constants(name, scales, np.zeros(scales.shape, np.int8))
            twin = self._name(f"{name}_dequantized")
            node = self._node("DequantizeLinear", [packed, *constants], twin)
            if axis is not None:
                node.attribute.append(onnx.helper.make_attribute("axis", axis))
            self.first.append(node)
            self.made[name, axis] = twin
            self.scales[twin] = scales
            self.replaced.add(name)
        return self.made[name, axis]

    def bias(self, tensor: TensorProto, name: str, data: str, weight: str) -> str:
        """Name of the dequantized int32 twin of a bias, in steps of the two operands' scales multiplied.

        The name itself where the bias is not one value per channel, or does not fit into int32.
        """
        values = numpy_helper.to_array(tensor)
        scales = (self.scales[data] * self.scales[weight]).astype(np.float32)
        if values.ndim != 1 or scales.shape not in ((), values.shape) or np.any(scales == 0):
            return name
        steps = np.rint(values.astype(np.float64) / scales)
        if not np.all(np.abs(steps) <= np.iinfo(np.int32).max):
            return name
        packed = self._initializer(f"{name}_quantized", steps.astype(np.int32))
        constants = self._constants(name, scales, np.zeros(scales.shape, np.int32))
        twin = self._name(f"{name}_dequantized")
        node = self._node("DequantizeLinear", [packed, *constants], twin)
        if scales.ndim:
            node.attribute.append(onnx.helper.make_attribute("axis", 0))
        self.first.append(node)
        self.replaced.add(name)
        return twin

    def _constants(self, tensor: str, scale: NDArray[Any], zero_point: NDArray[Any]) -> tuple[str, str]:
        return (
            self._initializer(f"{tensor}_scale", scale.astype(np.float32)),
            self._initializer(f"{tensor}_zero_point", zero_point),
        )

    def _initializer(self, wanted: str, values: NDArray[Any]) -> str:
        name = self._name(wanted)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str) -> NodeProto:
        return onnx.helper.make_node(kind, inputs, [output], name=self._name(f"{output}_node"))

    def _name(self, wanted: str) -> str:
        while wanted in self.names:
            wanted += "_"
        self.names.add(wanted)
        return wanted


def _insert(graph: GraphProto, writer: _Writer) -> None:
    """Put the new nodes right behind what they read, and drop float constants that nothing reads any more."""
    nodes = list(writer.first)
    for value in graph.input:
        nodes.extend(writer.after.get(value.name, ()))
    for node in graph.node:
        nodes.append(NodeProto.FromString(node.SerializeToString()))
        for name in node.output:
            nodes.extend(writer.after.get(name, ()))
    still_read = {name for node in nodes for name in reads(node)} | {value.name for value in graph.output}
    unread = writer.replaced - still_read
    kept = [node for node in nodes if not (node.op_type == "Constant" and node.output[0] in unread)]
    initializers = [tensor for tensor in graph.initializer if tensor.name not in unread]
    copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in (*initializers, *writer.initializers)]
    infos = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in graph.value_info if v.name not in unread]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.initializer.extend(copies)
    graph.value_info.extend(infos)

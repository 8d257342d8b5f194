"""Scales, zero points, and the QuantizeLinear and DequantizeLinear nodes that carry them.

The affine scheme of the ONNX operators: real = (quantized - zero_point) * scale.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, TensorProto, numpy_helper

from regiolect.contracts import TensorRange
from regiolect.errors import InvalidOnnx, MissingThreshold, PrecisionOverflow
from regiolect.graphs.protos import graphs, reads

# Scale of a tensor that was zero in every calibration sample: any positive one represents it. The smallest normal
# float16 is also safe to invert in float16, where a smaller one would give infinity and then 0 * inf = NaN.
ALWAYS_ZERO_SCALE = 2.0**-14
# The most steps of an int32 bias. A kernel adds products of 8 x 8 bits to it, 33,000 of them at the least before it
# leaves int32.
_BIAS_STEPS = 2**30
# Times 255, the largest uint8 value, this still fits into int16, on either side of zero.
MOST_OF_A_PAIR = 128


def range_of(tensor: str, ranges: Mapping[str, TensorRange]) -> TensorRange:
    """A tensor's range.

    Raises:
        MissingThreshold: it has none; the error names the nearest tensors that have one.
    """
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

    signed: int8, zero point 0, scale threshold / 127. Otherwise uint8 over what was seen of -threshold to threshold:
    the zero point lies where zero does in that range, so that a tensor which is hardly ever negative loses no half of
    its levels. Zero is always exact; nothing in range is clipped by more than half a step. A tensor that was always
    zero gets ALWAYS_ZERO_SCALE.

    Raises:
        PrecisionOverflow: the scale is beyond the range of `scale_type`.
    """
    lower = max(min(observed.minimum, 0.0), -observed.threshold)
    upper = min(max(observed.maximum, 0.0), observed.threshold)
    if upper == lower:
        return np.float32(ALWAYS_ZERO_SCALE), 0
    if signed:
        zero_point, scale = 0, np.float64(observed.threshold) / 127
    else:
        zero_point = round(255 * (-lower / (upper - lower)))
        scale = (np.float64(upper) - lower) / 255
    return np.float32(_round_up(np.asarray(scale), scale_type)[()]), zero_point


def weight_scales(
    weight: NDArray[np.float32],
    axis: int | None,
    scale_type: type[np.floating[Any]],
    least: NDArray[np.float64] | None = None,
    *,
    pairs_in_int16: bool = False,
) -> NDArray[Any]:
    """max|w| / 127, per index of `axis` or for the whole tensor, and no less than `least`; 1 where that makes zero.

    Args:
        weight: of any shape.
        axis: each index along it has a scale of its own; None for one scale in all.
        scale_type: float type that holds the scales exactly.
        least: one value per index of `axis`, as `least_for_bias` gives them.
        pairs_in_int16: no two steps of a scale's weights add up to more than `MOST_OF_A_PAIR`. Then the scale is up to
            twice as large: max|w| / 64 where the largest weights are alike, max|w| / 127 still where one stands out.

    Raises:
        PrecisionOverflow: a scale is beyond the range of `scale_type`.
    """
    others = tuple(index for index in range(weight.ndim) if index != axis) if axis is not None else None
    largest = np.abs(weight).max(axis=others, initial=0.0).astype(np.float64)
    scales = largest / 127
    if pairs_in_int16:
        pairs = _largest_pairs(weight, axis).reshape(largest.shape)
        # Half a step of rounding on either side of a pair makes one step more.
        scales = np.minimum(largest / (MOST_OF_A_PAIR // 2), np.maximum(scales, pairs / (MOST_OF_A_PAIR - 1)))
    if least is not None:
        scales = np.maximum(scales, least)
    return _round_up(np.where(scales > 0, scales, 1.0), scale_type).astype(np.float32)


def least_for_bias(bias: NDArray[Any], data_scale: NDArray[Any]) -> NDArray[np.float64]:
    """Weight scales at which a bias takes half of int32, per channel: the other half is the products'.

    An integer kernel adds biases in steps of both scales multiplied. A channel with weights is no trouble: one step is
    less than half a percent of what it answers to the smallest change of its input that is seen at all. A channel
    whose weights are all zero, or next to zero beside its bias, says nothing of its scale; by this one its bias is as
    exact as float32, and does not overflow.

    Args:
        bias: one value per channel.
        data_scale: the scale of the data that the weights are multiplied with.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        least = np.abs(bias.astype(np.float64)) / (np.float64(data_scale) * _BIAS_STEPS)
    # Beyond that float32 cannot hold the scale: such a bias stays float.
    return np.where(least < np.finfo(np.float32).max, least, 0.0)


def pairs_fit(steps: NDArray[np.float32], axis: int | None) -> bool:
    """Whether no two steps of one index of `axis`, or of all where that is None, add up to too much for int16."""
    return bool(_largest_pairs(steps, axis).max(initial=0) <= MOST_OF_A_PAIR)


def _largest_pairs(values: NDArray[np.float32], axis: int | None) -> NDArray[Any]:
    """Per index of `axis`: the largest magnitude of a sum of two values of one sign, or of one value alone."""
    rows = values.reshape(1, -1) if axis is None else np.moveaxis(values, axis, 0).reshape(values.shape[axis], -1)
    if rows.shape[1] < 2:
        return np.asarray(np.abs(rows).astype(np.float64).max(axis=1, initial=0))
    most, least = (np.partition(side, -2, axis=1)[:, -2:].astype(np.float64) for side in (rows, -rows))
    return np.asarray(np.maximum(np.maximum(most, 0).sum(axis=1), np.maximum(least, 0).sum(axis=1)))


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


class Names:
    """Names that a graph and its subgraphs use for tensors and nodes, and new ones beside them."""

    def __init__(self, graph: GraphProto) -> None:
        self.taken: set[str] = set()
        self.counts: Counter[str] = Counter()
        for inner in graphs(graph):
            self.taken.update(value.name for value in (*inner.input, *inner.output, *inner.value_info))
            self.taken.update(tensor.name for tensor in inner.initializer)
            for node in inner.node:
                self.taken.update((node.name, *node.input, *node.output))

    def new(self, wanted: str) -> str:
        """`wanted`, with an underscore behind it if it is taken, then a number; taken from now on."""
        name = wanted
        while name in self.taken:
            self.counts[wanted] += 1
            count = self.counts[wanted]
            name = f"{wanted}_{count}" if count > 1 else f"{wanted}_"
        self.taken.add(name)
        return name


@dataclass
class Writer:
    """Makes Q/DQ nodes and their constants, once for each tensor."""

    names: Names
    scale_type: type[np.floating[Any]]
    pairs_in_int16: bool = False
    initializers: list[TensorProto] = field(default_factory=list)
    first: list[NodeProto] = field(default_factory=list)
    after: dict[str, list[NodeProto]] = field(default_factory=dict)
    replaced: set[str] = field(default_factory=set)
    made: dict[tuple[str, int | None, bytes], str] = field(default_factory=dict)
    scales: dict[str, NDArray[Any]] = field(default_factory=dict)

    def activation(self, tensor: str, observed: TensorRange, signed: bool) -> str:
        """Name of the dequantized twin of an activation."""
        if (tensor, None, b"") not in self.made:
            scale, zero_point = activation_scale(observed, signed, self.scale_type)
            kind = np.int8 if signed else np.uint8
            constants = self._constants(tensor, np.asarray(scale), np.asarray(zero_point, kind))
            packed, twin = self.names.new(f"{tensor}_quantized"), self.names.new(f"{tensor}_dequantized")
            self.after[tensor] = [
                self._node("QuantizeLinear", [tensor, *constants], packed),
                self._node("DequantizeLinear", [packed, *constants], twin),
            ]
            self.made[tensor, None, b""] = twin
            self.scales[twin] = np.asarray(scale)
        return self.made[tensor, None, b""]

    def weight(self, tensor: TensorProto, name: str, axis: int | None, least: NDArray[np.float64] | None = None) -> str:
        """Name of the dequantized twin of a constant, with scales of at least `least` (`weight_scales`)."""
        values = numpy_helper.to_array(tensor)
        if not np.isfinite(values).all():
            raise InvalidOnnx(
                expected=f"finite weights in {name!r}",
                found=f"{int((~np.isfinite(values)).sum())} that are NaN or infinite",
                remedy="train or export the model again",
            )
        scales = weight_scales(values, axis, self.scale_type, least, pairs_in_int16=self.pairs_in_int16)
        made = (name, axis, scales.tobytes())
        if made not in self.made:
            shape = [-1 if index == axis else 1 for index in range(values.ndim)]
            # In float32 and in this order, as the operator QuantizeLinear is defined.
            steps = np.divide(values, scales.reshape(shape) if axis is not None else scales, dtype=np.float32)
            np.clip(np.rint(steps, out=steps), -127, 127, out=steps)
            packed = self._initializer(f"{name}_quantized", steps.astype(np.int8))
            constants = self._constants(name, scales, np.zeros(scales.shape, np.int8))
            twin = self.names.new(f"{name}_dequantized")
            node = self._node("DequantizeLinear", [packed, *constants], twin)
            if axis is not None:
                node.attribute.append(onnx.helper.make_attribute("axis", axis))
            self.first.append(node)
            self.made[made] = twin
            self.scales[twin] = scales
            self.replaced.add(name)
        return self.made[made]

    def bias(self, tensor: TensorProto, name: str, data: str, weight: str) -> str:
        """Name of the dequantized int32 twin of a bias, in steps of the two operands' scales multiplied.

        The name itself where the bias is not one value per channel, or takes more than half of int32.
        """
        values = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            scales = (self.scales[data] * self.scales[weight]).astype(np.float32)
        if values.ndim != 1 or scales.shape not in ((), values.shape) or not np.all((scales > 0) & np.isfinite(scales)):
            return name
        steps = np.rint(values.astype(np.float64) / scales)
        # Scales are rounded, so a bias that its channel's scale was made for may be some steps above.
        if not np.all(np.abs(steps) <= 1.001 * _BIAS_STEPS):
            return name
        packed = self._initializer(f"{name}_quantized", steps.astype(np.int32))
        constants = self._constants(name, scales, np.zeros(scales.shape, np.int32))
        twin = self.names.new(f"{name}_dequantized")
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
        name = self.names.new(wanted)
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name

    def _node(self, kind: str, inputs: list[str], output: str) -> NodeProto:
        return onnx.helper.make_node(kind, inputs, [output], name=self.names.new(f"{output}_node"))


def insert(graph: GraphProto, writer: Writer) -> None:
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

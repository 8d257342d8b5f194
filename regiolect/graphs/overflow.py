"""What would leave float16's range, told from the ranges that a calibration saw, before it happens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper

from regiolect.contracts import TensorRange
from regiolect.graphs.half import LARGEST, refuse_unreadable
from regiolect.graphs.protos import check, constants, tensor_types
from regiolect.graphs.qdq import range_of

# What was seen is a sample: other inputs may reach further, so nothing comes nearer to the limit than half of it.
SAFE = LARGEST / 2
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
# They sum or square inside what nothing outside shows.
_HIDDEN = frozenset({"Attention", "DFT", "LpNormalization", "MeanVarianceNormalization", "STFT"})
# ONNX defines these to normalize in float32 by default.
_NORMALIZATIONS = frozenset({"GroupNormalization", "LayerNormalization", "RMSNormalization"})


def kept_wide(model: ModelProto, ranges: Mapping[str, TensorRange]) -> tuple[str, ...]:
    """First outputs of the operators that have to stay float32 in an FP16 graph, in graph order.

    They are those that make or read a tensor or a constant of more than half of float16's largest value, 65504, and
    those that may do so inside, though what goes in and comes out fits: sums of N values x under a mean reach N max|x|,
    a root of a sum of squares y had y * y under it. A sum over an extent that is not known counts as too large.

    Args:
        model: a normalized FP32 graph.
        ranges: of every float32 tensor that the graph reads or makes; `threshold` is not looked at.

    Raises:
        MissingThreshold: a tensor has no range, so nobody can tell.
        UnsupportedOperator: control flow or operators of other domains, inside of which nothing is observed.
        InvalidOnnx: the graph fails the full check.
    """
    refuse_unreadable(model.graph)
    seen = _Seen.of(check(model).graph, ranges)
    return tuple(
        node.output[0]
        for node in model.graph.node
        if node.op_type not in (*_QUANTIZERS, "Constant") and seen.largest(node) > SAFE
    )


@dataclass(frozen=True)
class _Seen:
    """Largest magnitude of every float32 tensor, and the shapes that are known."""

    magnitudes: Mapping[str, float]
    shapes: Mapping[str, tuple[int | None, ...]]
    held: Mapping[str, TensorProto]

    @classmethod
    def of(cls, graph: GraphProto, ranges: Mapping[str, TensorRange]) -> _Seen:
        held, types = constants(graph), tensor_types(graph)
        made = {name for node in graph.node for name in node.output if name}
        magnitudes = {
            name: _magnitude(tensor) for name, tensor in held.items() if tensor.data_type == TensorProto.FLOAT
        }
        for node in graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] in held:
                magnitudes[node.output[0]] = _dequantized(node, held)
        for name in (*(value.name for value in graph.input), *made):
            if types.get(name) == TensorProto.FLOAT and name not in magnitudes:
                found = range_of(name, ranges)
                magnitudes[name] = max(abs(found.minimum), abs(found.maximum))
        values = (*graph.input, *graph.value_info, *graph.output)
        shapes = {value.name: _shape(value) for value in values if value.type.tensor_type.HasField("shape")}
        return cls(magnitudes, shapes, held)

    def largest(self, node: NodeProto) -> float:
        """The largest magnitude that an operator meets: read, made or inside."""
        met = [self.magnitudes[name] for name in (*node.input, *node.output) if name in self.magnitudes]
        if not met:
            return 0.0
        return max(*met, self._inside(node))

    def _inside(self, node: NodeProto) -> float:
        kind = node.op_type
        attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}
        first, made = self.magnitudes.get(node.input[0], 0.0), self.magnitudes.get(node.output[0], 0.0)
        if kind in _HIDDEN or (kind in _NORMALIZATIONS and attributes.get("stash_type", 1) != TensorProto.FLOAT):
            return math.inf
        if kind in ("Softmax", "LogSoftmax"):
            # A sum of values up to 1: only an extent that is known to be huge can take it too far.
            extent = self._extent(node, [attributes.get("axis", -1)])
            return extent if math.isfinite(extent) else 0.0
        if first == 0:
            return 0.0
        inner: dict[str, Callable[[], float]] = {
            "ReduceMean": lambda: first * self._extent(node, self._axes(node, attributes)),
            "ReduceSum": lambda: first * self._extent(node, self._axes(node, attributes)),
            "GlobalAveragePool": lambda: first * self._extent(node, range(2, self._rank(node))),
            "AveragePool": lambda: first * float(math.prod(attributes["kernel_shape"])),
            "InstanceNormalization": lambda: first * first * self._extent(node, range(2, self._rank(node))),
            "LRN": lambda: first * first * float(attributes["size"]),
            "ReduceL2": lambda: made * made,
            "LpPool": lambda: _power(made, attributes.get("p", 2)),
            "GlobalLpPool": lambda: _power(made, attributes.get("p", 2)),
            "ReduceLogSum": lambda: _exp(made),
            "ReduceLogSumExp": lambda: _exp(first) * self._extent(node, self._axes(node, attributes)),
            "Softplus": lambda: _exp(first),
        }
        return inner[kind]() if kind in inner else 0.0

    def _rank(self, node: NodeProto) -> int:
        return len(self.shapes.get(node.input[0], ()))

    def _axes(self, node: NodeProto, attributes: Mapping[str, object]) -> list[int] | None:
        """Axes that a reduction goes over; all of them if none is said, None if they are computed."""
        said = attributes.get("axes")
        if len(node.input) > 1 and node.input[1]:
            if node.input[1] not in self.held:
                return None
            said = numpy_helper.to_array(self.held[node.input[1]]).tolist()
        if not said and attributes.get("noop_with_empty_axes", 0):
            return []
        return list(said) if isinstance(said, list) and said else list(range(self._rank(node)))

    def _extent(self, node: NodeProto, axes: range | list[int] | None) -> float:
        """How many values lie along the axes of a node's first input; infinity if that is not known."""
        shape = self.shapes.get(node.input[0])
        if shape is None or axes is None:
            return math.inf
        found = [shape[axis] for axis in axes]
        return float(math.prod(each for each in found if each is not None)) if None not in found else math.inf


def _exp(value: float) -> float:
    return math.exp(min(value, 700.0))


def _power(value: float, exponent: int) -> float:
    return math.inf if value > SAFE else float(value**exponent)


def _magnitude(tensor: TensorProto) -> float:
    """Infinities stay infinite in float16: they are no overflow."""
    values = np.abs(numpy_helper.to_array(tensor))
    return float(values[np.isfinite(values)].max(initial=0.0))


def _dequantized(node: NodeProto, held: Mapping[str, TensorProto]) -> float:
    """Largest magnitude that a constant can have behind its DequantizeLinear."""
    packed = numpy_helper.to_array(held[node.input[0]]).astype(np.float64)
    points = numpy_helper.to_array(held[node.input[2]]).astype(np.float64) if len(node.input) > 2 else np.zeros(1)
    steps = max(packed.max(initial=0) - points.min(), points.max() - packed.min(initial=0))
    return float(steps * np.abs(numpy_helper.to_array(held[node.input[1]])).max())


def _shape(value: onnx.ValueInfoProto) -> tuple[int | None, ...]:
    return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in value.type.tensor_type.shape.dim)

"""Scales of channels that ONNX Runtime's integer kernels do not take, written so that no such kernel is made of them.

It fuses what lies between DequantizeLinear and QuantizeLinear nodes whatever scales these have. Its kernels take
several for the output channels of a weight alone. With others, on any processor, a session does not open, each run
fails, or the answer is another: a MatMul whose weight has a scale for each row was 50 % away, a convolution with one
for each input channel 71 % (ONNX Runtime 1.31).

One scale for a tensor may be written as a vector of one value. Beside an addition, a product of two tensors or an
average pool no session opens then.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.graphs.known import Known
from regiolect.graphs.protos import (
    attributes,
    channel_axis,
    constants,
    dequantizer_of,
    drop_unread,
    inferred_ranks,
    inferred_types,
    is_standard,
    producers,
    sort_nodes,
)
from regiolect.graphs.qdq import Names

_PAIR = ("QuantizeLinear", "DequantizeLinear")
_BITS: Mapping[int, tuple[int, int]] = {TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255)}
# What ONNX Runtime takes out or moves on the way to a product.
_PASSED = frozenset({"Identity", "Dropout", "Cast"})
_PRODUCTS = frozenset({"Conv", "Gemm", "MatMul"})
# What it fuses beside another tensor, with one scale for each of the two.
_TOGETHER = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Concat", "Where", "Max", "Min", "Sum"})


def one_by_one(model: ModelProto) -> ModelProto:
    """The same model in which such scales are arithmetic in float32, or floats where a constant has them; itself if
    there are none. Every value stays what it was.

    Scales by blocks stay, and scales that are computed; vectors of one value become scalars. Control flow is not looked
    into.
    """
    return _several_written(_scalars(model))


def _scalars(model: ModelProto) -> ModelProto:
    """The same model in which a vector of one scale, or zero point, is a scalar; itself if there is none."""
    held = constants(model.graph)
    found = [place for place, node in enumerate(model.graph.node) if _is_vector_of_one(node, held)]
    if not found:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    names, scalars = Names(result.graph), dict[str, str]()
    for node in (result.graph.node[place] for place in found):
        for place in range(1, len(node.input)):
            name = node.input[place]
            if name and name not in scalars:
                scalars[name] = names.new(f"{name}_scalar")
                value = numpy_helper.to_array(held[name]).reshape(())
                result.graph.initializer.append(numpy_helper.from_array(value, scalars[name]))
            node.input[place] = scalars.get(name, name)
    drop_unread(result.graph)
    return result


def _several_written(model: ModelProto) -> ModelProto:
    """The same model in which scales of channels are as `one_by_one` says."""
    held = constants(model.graph)
    if not any(_has_several(node, held) for node in model.graph.node):
        return model
    asking = _Writing(model)
    found = [place for place, node in enumerate(model.graph.node) if _has_several(node, held) and asking.is_meant(node)]
    if not found:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    graph, writing = result.graph, _Writing(result)
    for place in found:
        writing.write(graph.node[place])
    for place in reversed(found):
        del graph.node[place]
    graph.node.extend(writing.added)
    sort_nodes(graph)
    drop_unread(graph)
    return result


class _Writing:
    """A graph that is being rewritten, what is known of its tensors, and new nodes."""

    def __init__(self, model: ModelProto) -> None:
        self.model, self.graph = model, model.graph
        self.known, self.names = Known(model), Names(model.graph)
        self.made_by = producers(model.graph)
        self.readers = defaultdict[str, list[tuple[NodeProto, int]]](list)
        for node in model.graph.node:
            for place, name in enumerate(node.input):
                self.readers[name].append((node, place))
        self.added: list[NodeProto] = []

    def is_meant(self, node: NodeProto) -> bool:
        """Whether ONNX Runtime would fuse a node with several scales into what does not take them."""
        packed, rank = self._packed(node), self._rank(node)
        if packed not in _BITS or not rank or (any(node.input[2:]) and self.known.get(node.input[2]) is None):
            return False
        constant = node.input[0] in self.known
        if node.op_type == "QuantizeLinear":
            # Fused with what makes its tensor of dequantized ones.
            made = self.made_by.get(node.input[0])
            return made is not None and any(dequantizer_of(name, self.made_by) is not None for name in made.input)
        if constant and self.known.get(node.input[0]) is None:
            return False
        return not self._is_taken(node, rank, constant)

    def write(self, node: NodeProto) -> None:
        """What stands in the place of a node, with its output's name."""
        held = self.known.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        scale, point = self._of_channels(node, node.input[1]), self._of_channels(node, *node.input[2:])
        if held is not None:
            values = (numpy_helper.to_array(held).astype(np.float32) - point) * scale
            self.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), node.output[0]))
            return
        if node.op_type == "DequantizeLinear":
            wide = self._add("Cast", [node.input[0]], to=TensorProto.FLOAT)
            moved = self._add("Sub", [wide, self._constant(node, point)])
            self._add("Mul", [moved, self._constant(node, scale)], node.output[0])
            return
        packed = self._packed(node)
        steps = self._add("Round", [self._add("Div", [node.input[0], self._constant(node, scale)])])
        moved = self._add("Add", [steps, self._constant(node, point)])
        ends = [self._constant(node, np.asarray(end, np.float32)) for end in _BITS[packed]]
        self._add("Cast", [self._add("Clip", [moved, *ends])], node.output[0], to=packed)

    @cached_property
    def _types(self) -> Mapping[str, int]:
        return inferred_types(self.model)

    @cached_property
    def _ranks(self) -> Mapping[str, int]:
        return inferred_ranks(self.model)

    def _packed(self, node: NodeProto) -> int:
        """Type of the steps."""
        shown = [*node.input[2:], *(node.input[:1] if node.op_type == "DequantizeLinear" else ())]
        for name in filter(None, shown):
            value = self.known.get(name)
            return int(self._types.get(name, TensorProto.UNDEFINED) if value is None else value.data_type)
        return int(attributes(node).get("output_dtype", 0)) or TensorProto.UINT8

    def _rank(self, node: NodeProto) -> int | None:
        value = self.known.get(node.input[0])
        return self._ranks.get(node.input[0]) if value is None else len(value.dims)

    def _is_taken(self, node: NodeProto, rank: int, constant: bool) -> bool:
        """Whether the scales of a tensor are those of output channels for all products that read it, and nothing else
        that is fused does."""
        waiting = [(node.output[0], attributes(node).get("axis", 1) % rank)]
        while waiting:
            name, axis = waiting.pop()
            for reader, place in self.readers[name]:
                kind = reader.op_type if is_standard(reader) else ""
                if kind in _PASSED:
                    waiting.append((reader.output[0], axis))
                elif kind == "Transpose":
                    order = list(attributes(reader).get("perm", range(rank)[::-1]))
                    waiting.append((reader.output[0], order.index(axis)))
                elif kind in _PRODUCTS:
                    if axis != channel_axis(reader, place, rank, of_batches=False):
                        return False
                elif kind in _TOGETHER or not constant:
                    return False
        return True

    def _of_channels(self, node: NodeProto, name: str = "", *_: str) -> NDArray[np.float32]:
        """Scales or zero points in the shape that a node's tensor is computed with; 0 where there are none."""
        value, rank = self.known.get(name), self._rank(node)
        if value is None or rank is None:
            return np.asarray(0, np.float32)
        shape = [1] * rank
        shape[attributes(node).get("axis", 1)] = -1
        values: NDArray[np.float32] = numpy_helper.to_array(value).astype(np.float32)
        return values.reshape(shape) if values.ndim else values

    def _add(self, operator: str, inputs: list[str], output: str = "", **settings: Any) -> str:
        made = output or self.names.new(f"{inputs[0]}_{operator.lower()}")
        self.added.append(helper.make_node(operator, inputs, [made], self.names.new(f"{made}_node"), **settings))
        return made

    def _constant(self, node: NodeProto, value: NDArray[np.float32]) -> str:
        name = self.names.new(f"{node.output[0]}_channels")
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), name))
        return name


def _is_vector_of_one(node: NodeProto, held: Mapping[str, TensorProto]) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear has one constant scale and zero point, but not as scalars."""
    if node.op_type not in _PAIR or not is_standard(node) or attributes(node).get("block_size", 0):
        return False
    given = [held.get(name) for name in node.input[1:] if name]
    return any(each is not None and each.dims for each in given) and all(
        each is not None and list(each.dims) in ([], [1]) for each in given
    )


def _has_several(node: NodeProto, held: Mapping[str, TensorProto]) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear has a constant scale in float32 for each channel."""
    if node.op_type not in _PAIR or not is_standard(node) or len(node.input) < 2:
        return False
    scale = held.get(node.input[1])
    several = scale is not None and scale.data_type == TensorProto.FLOAT and len(scale.dims) == 1 and scale.dims[0] > 1
    return several and not attributes(node).get("block_size", 0)

"""Quantization that a graph arrives with, rewritten for kernels that add products of 8 x 8 bits in pairs in int16."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import GraphProto, NodeProto, numpy_helper

from regiolect.graphs.protos import MOVES_ONE_INPUT, constants, dequantizer_of, is_standard, producers, reads
from regiolect.graphs.qdq import Names, pairs_fit, weight_scales


def refit(graph: GraphProto, operators: Collection[str]) -> None:
    """Let no pair of products of the operators' own 8-bit operands leave int16, in place.

    Weights become int8 with zero point 0, and get larger scales where two of them are too large together, so they lose
    up to one bit. int8 activations become uint8 with the same values: zero point and steps move by 128 alike. As they
    were stay: what fits; weights with scales per block, or that are not constant; activations that are read in their
    8 bits by other nodes than DequantizeLinear.

    Args:
        graph: a normalized graph; subgraphs of control flow are not looked at.
        operators: operator types whose first two inputs are meant.
    """
    made_by = producers(graph)
    found = [
        dequantize
        for node in graph.node
        if is_standard(node) and node.op_type in operators
        for name in node.input[:2]
        if (dequantize := dequantizer_of(name, made_by)) is not None
    ]
    rewriting = _Rewriting(graph)
    for dequantize in {node.output[0]: node for node in found}.values():
        quantize = made_by.get(dequantize.input[0])
        if dequantize.input[0] in rewriting.held:
            rewriting.weight(dequantize, None)
        elif quantize is not None and quantize.op_type == "QuantizeLinear":
            if quantize.input[0] in rewriting.held:
                rewriting.weight(dequantize, quantize)
            else:
                rewriting.activation(quantize)
    rewriting.drop_unread()


def off_middle(graph: GraphProto, operators: Collection[str]) -> None:
    """Let no computed second factor of a product have zero point 128 beside a first one with zero point 0, in place.

    OpenVINO takes uint8 with zero point 128 for int8, and the pairs of the two leave int16. It gets zero point 127, and
    steps that are larger by 0.8 %, so that no value is clipped by more than half a step. What follows Softmax is left:
    two of its values add up to no more than one.

    Left as it is, and so saturating, is a factor that no QuantizeLinear makes, or whose 8 bits are an output or are
    read by anything but DequantizeLinears with its own scale: the gate judges what such an engine answers.

    Args:
        graph: a graph with Q/DQ nodes; subgraphs of control flow are not looked at.
        operators: operator types whose first two inputs are meant.
    """
    made_by, rewriting = producers(graph), _Rewriting(graph)
    for node in graph.node:
        if is_standard(node) and node.op_type in operators:
            first, second = (dequantizer_of(name, made_by) for name in node.input[:2])
            if first is not None and second is not None and rewriting.is_at(first, 0) and rewriting.is_at(second, 128):
                source, quantize = (made_by.get(_unmoved(each.input[0], made_by)) for each in (first, second))
                maker = made_by.get(source.input[0]) if source is not None else None
                if quantize is not None and (maker is None or maker.op_type != "Softmax"):
                    rewriting.shifted(quantize)
    rewriting.drop_unread()


class _Rewriting:
    """A graph, its constants, and the names of the tensors that were replaced."""

    def __init__(self, graph: GraphProto) -> None:
        self.graph, self.held, self.names = graph, constants(graph), Names(graph)
        self.replaced: set[str] = set()

    def weight(self, dequantize: NodeProto, quantize: NodeProto | None) -> None:
        """int8 steps that fit, with their scales; `quantize` makes the steps where the graph holds floats."""
        attributes = _attributes(dequantize)
        scale, point = self._value(dequantize, 1), self._value(dequantize, 2)
        packed = self._value(dequantize, 0) if quantize is None else self._steps(quantize)
        if packed is None or scale is None or (point is None and len(dequantize.input) > 2):
            return
        if packed.dtype not in (np.int8, np.uint8) or scale.ndim > 1 or attributes.get("block_size", 0):
            return
        axis = attributes.get("axis", 1) % packed.ndim if scale.size > 1 else None
        steps = packed.astype(np.float32) - (0 if point is None else _along(axis, packed, point.astype(np.float32)))
        if packed.dtype == np.int8 and not np.any(point) and pairs_fit(steps, axis):
            return
        values = (steps * _along(axis, packed, scale)).astype(np.float32)
        wider = weight_scales(values, axis, scale.dtype.type, pairs_in_int16=True)
        fitting = np.clip(np.rint(values / _along(axis, packed, wider)), -127, 127).astype(np.int8)
        self.replaced.update(dequantize.input, () if quantize is None else quantize.input)
        name = dequantize.output[0]
        dequantize.input[:] = [
            self._constant(f"{name}_steps", fitting),
            self._constant(f"{name}_scale", wider.astype(scale.dtype).reshape(scale.shape)),
            self._constant(f"{name}_zero_point", np.zeros(scale.shape, np.int8)),
        ]

    def activation(self, quantize: NodeProto) -> None:
        """uint8 in place of int8 between a QuantizeLinear and its readers."""
        name = quantize.output[0]
        readers = [node for node in self.graph.node if name in reads(node)]
        if any(node.op_type != "DequantizeLinear" for node in readers) or name in _outputs(self.graph):
            return
        points = {node.output[0]: self._value(node, 2) for node in (quantize, *readers)}
        if any(point is None or point.dtype != np.int8 for point in points.values()):
            return
        self.replaced.add(name)
        for node in (quantize, *readers):
            self.replaced.add(node.input[2])
            moved = np.asarray(points[node.output[0]], np.int16) + 128
            node.input[2] = self._constant(f"{node.output[0]}_zero_point", moved.astype(np.uint8))

    def is_at(self, dequantize: NodeProto, zero_point: int) -> bool:
        """Whether what is dequantized is uint8 with one scale and this zero point."""
        scale, point = self._value(dequantize, 1), self._value(dequantize, 2)
        one = scale is not None and point is not None and scale.size == point.size == 1 and point.dtype == np.uint8
        return one and point is not None and int(point.ravel()[0]) == zero_point

    def shifted(self, quantize: NodeProto) -> None:
        """Zero point 127 in place of 128 between a QuantizeLinear and its readers, and larger steps."""
        name, scale = quantize.output[0], self._value(quantize, 1)
        both, waiting = [quantize], [name]
        while waiting:
            each = waiting.pop()
            if each in _outputs(self.graph):
                return
            for node in (node for node in self.graph.node if each in reads(node)):
                if node.op_type in MOVES_ONE_INPUT:
                    waiting.extend(node.output)
                else:
                    both.append(node)
        kinds = {node.op_type for node in both[1:]}
        if quantize.op_type != "QuantizeLinear" or kinds != {"DequantizeLinear"} or scale is None:
            return
        if not all(self.is_at(node, 128) for node in both):
            return
        self.replaced.update(each for node in both for each in node.input[1:])
        wider = np.nextafter((scale.astype(np.float64) * 128.5 / 127.5).astype(scale.dtype), scale.dtype.type(np.inf))
        constants = [
            self._constant(f"{name}_scale", wider),
            self._constant(f"{name}_zero_point", np.full(scale.shape, 127, np.uint8)),
        ]
        for node in both:
            node.input[1:] = constants

    def drop_unread(self) -> None:
        """Take out what was replaced and is read no more, and what the graph says of the types of the rest."""
        graph = self.graph
        idle = [node for node in graph.node if node.op_type == "QuantizeLinear" and node.output[0] in self.replaced]
        for node in idle:
            if not self._is_read(node.output[0]):
                graph.node.remove(node)
        unread = {name for name in self.replaced if not self._is_read(name)}
        for node in [node for node in graph.node if node.op_type == "Constant" and node.output[0] in unread]:
            graph.node.remove(node)
        for tensor in [tensor for tensor in graph.initializer if tensor.name in unread]:
            graph.initializer.remove(tensor)
        for info in [info for info in graph.value_info if info.name in self.replaced]:
            graph.value_info.remove(info)

    def _is_read(self, name: str) -> bool:
        return name in _outputs(self.graph) or any(name in reads(node) for node in self.graph.node)

    def _steps(self, quantize: NodeProto) -> NDArray[Any] | None:
        """What a QuantizeLinear makes of a constant; None where its scale or zero point is not constant."""
        values, scale, point = (self._value(quantize, place) for place in range(3))
        attributes = _attributes(quantize)
        if values is None or scale is None or scale.ndim > 1 or attributes.get("block_size", 0):
            return None
        if point is None or point.dtype not in (np.int8, np.uint8):
            return None
        axis = attributes.get("axis", 1) % values.ndim if scale.size > 1 else None
        steps = np.rint(values / _along(axis, values, scale)) + _along(axis, values, point.astype(np.float32))
        info = np.iinfo(point.dtype)
        return np.asarray(np.clip(steps, info.min, info.max), point.dtype)

    def _value(self, node: NodeProto, place: int) -> NDArray[Any] | None:
        """An input's constant; None where there is none."""
        tensor = self.held.get(node.input[place]) if place < len(node.input) else None
        return None if tensor is None else numpy_helper.to_array(tensor)

    def _constant(self, wanted: str, values: NDArray[Any]) -> str:
        name = self.names.new(wanted)
        self.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name))
        return name


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}


def _unmoved(name: str, made_by: Mapping[str, NodeProto]) -> str:
    """The tensor that nodes which only move values lead to from here."""
    while name in made_by and made_by[name].op_type in MOVES_ONE_INPUT and is_standard(made_by[name]):
        name = made_by[name].input[0]
    return name


def _outputs(graph: GraphProto) -> set[str]:
    return {value.name for value in graph.output}


def _along(axis: int | None, values: NDArray[Any], of_channel: NDArray[Any]) -> NDArray[Any]:
    """One value, or one for each index of an axis, in the shape that `values` is computed with."""
    return of_channel.reshape([-1 if place == axis else 1 for place in range(values.ndim)])

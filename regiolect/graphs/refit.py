"""Quantization of a graph, rewritten for kernels that add products of 8 x 8 bits in pairs in int16.

OpenVINO multiplies the first factor of a product, uint8 or int8, by the second in int8. A pair leaves int16 where two
steps of the second add up to more than `MOST_OF_A_PAIR`. So constants lose up to one bit (`refit`), and computed second
factors are none that OpenVINO takes for int8 (`off_middle`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.graphs.known import Known
from regiolect.graphs.protos import (
    MOVES_ONE_INPUT,
    attributes,
    drop_unread,
    inferred_types,
    is_standard,
    producers,
    reads,
    sort_nodes,
)
from regiolect.graphs.qdq import Names, pairs_fit, weight_scales

# Operators whose second input is what OpenVINO's kernels take in int8; of an Einsum it may be any input.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_EINSUM = "Einsum"
_MIDDLE = 128
_BITS = (TensorProto.INT8, TensorProto.UINT8)
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16)


def refit(model: ModelProto) -> None:
    """Let no pair of products with an 8-bit constant leave int16, in place.

    Each 8-bit constant that is dequantized, of whatever operators, becomes int8 with zero point 0, and gets larger
    scales where two of its steps are too large together. Where only products read it, two are any two with one scale.
    Where others do, as Gather, Concat and Tile, a step may meet itself or one of another constant: there no step is
    larger than half of `MOST_OF_A_PAIR`. As they were stay: what fits; constants with scales per block, or with scales
    or zero points that are computed from inputs.

    Args:
        model: a normalized model in which all computed 8-bit tensors are `unsigned`; subgraphs of control flow are not
            looked at.
    """
    constants = _Constants(model)
    only_products = _read_by_products(model.graph)
    for node in model.graph.node:
        if _is(node, "DequantizeLinear"):
            constants.refit(node, alone=node.output[0] in only_products)
    if constants.changed:
        drop_unread(model.graph)


def off_middle(model: ModelProto) -> None:
    """Let no computed second factor of a product be uint8 with zero point 128, in place.

    OpenVINO takes that for int8, and the pairs of a product with it leave int16, whatever the first factor's steps add
    up to in real numbers. What a QuantizeLinear makes, and nodes that only move values, gets zero point 127, and steps
    that are larger by 0.8 %, so that no value is clipped by more than half a step. Any other, that was joined, cut,
    padded or gathered in its 8 bits, or handed in, keeps its scale: its steps move by one, and the lowest of the 256
    becomes the next. What a Cast makes float, which OpenVINO takes for a DequantizeLinear, is cast to int32 before.
    OpenVINO multiplies all of these in float32. First factors stay as they are.

    Args:
        model: a model with Q/DQ nodes, refitted; subgraphs of control flow are not looked at.
    """
    factors = _SecondFactors(model)
    for node in _second_factors(model.graph):
        factors.move(node)
    if factors.added:
        model.graph.node.extend(factors.added)
        sort_nodes(model.graph)
        drop_unread(model.graph)


class _Graph:
    """A model's graph, its constants, and new ones."""

    def __init__(self, model: ModelProto) -> None:
        self.graph, self.known, self.names = model.graph, Known(model), Names(model.graph)

    def value(self, node: NodeProto, place: int) -> NDArray[Any] | None:
        """An input's constant; None where there is none."""
        tensor = self.known.get(node.input[place]) if place < len(node.input) else None
        return None if tensor is None else numpy_helper.to_array(tensor)

    def constant(self, wanted: str, values: NDArray[Any]) -> str:
        name = self.names.new(wanted)
        tensor = numpy_helper.from_array(np.ascontiguousarray(values).reshape(values.shape), name)
        self.graph.initializer.append(tensor)
        self.known.add(tensor)
        return name


class _Constants(_Graph):
    """8-bit constants, and whether one of them got other steps."""

    changed = False

    def refit(self, dequantize: NodeProto, alone: bool) -> None:
        """int8 steps that fit, with their scales. `alone`: no step meets itself or one of another constant."""
        packed, scale = self.value(dequantize, 0), self.value(dequantize, 1)
        if packed is None or packed.dtype not in (np.int8, np.uint8) or not packed.size:
            return
        given = attributes(dequantize)
        if scale is None or scale.ndim > 1 or given.get("block_size", 0):
            return
        point = self.value(dequantize, 2)
        if point is None:
            if any(dequantize.input[2:]):
                return
            point = np.zeros(scale.shape, packed.dtype)
        axis = given.get("axis", 1) % packed.ndim if scale.size > 1 else None
        steps = packed.astype(np.float32) - _along(axis, packed, point.astype(np.float32))
        # OpenVINO takes scales that are all alike for one, whichever axis they were for.
        apart = axis if np.ptp(scale.astype(np.float32)) else None
        if packed.dtype == np.int8 and not np.any(point) and pairs_fit(*_pairs(steps, apart, alone)):
            return
        values = (steps * _along(axis, packed, scale)).astype(np.float32)
        wider = weight_scales(*_pairs(values, apart, alone), scale.dtype.type, pairs_in_int16=True)
        fitting = np.clip(np.rint(values / _along(apart, packed, wider)), -127, 127).astype(np.int8)
        name = dequantize.output[0]
        dequantize.input[:] = [
            self.constant(f"{name}_steps", fitting),
            self.constant(f"{name}_scale", np.broadcast_to(wider, scale.shape).astype(scale.dtype)),
            self.constant(f"{name}_zero_point", np.zeros(scale.shape, np.int8)),
        ]
        self.changed = True


class _SecondFactors(_Graph):
    """Computed tensors with zero point 128, and the nodes that make others in their place."""

    def __init__(self, model: ModelProto) -> None:
        super().__init__(model)
        self.made_by = producers(model.graph)
        self.added: list[NodeProto] = []
        self.shifted: dict[str, str] = {}
        self.lowered: dict[str, str] = {}
        self.model, self.types = model, dict[str, int]()

    def move(self, dequantize: NodeProto) -> None:
        """Let a DequantizeLinear, or a Cast, read steps that OpenVINO does not take for int8."""
        if dequantize.op_type == "Cast":
            self._widen(dequantize)
        if not self._in_middle(dequantize) or dequantize.input[0] in self.known:
            return
        moves, name = list[NodeProto](), dequantize.input[0]
        while name in self.made_by and _moves(self.made_by[name]):
            moves.append(self.made_by[name])
            name = moves[-1].input[0]
        quantize = self.made_by.get(name)
        scales = [None if node is None else self.value(node, 1) for node in (quantize, dequantize)]
        if quantize is None or not self._in_middle(quantize) or any(scale is None for scale in scales):
            self._lower(dequantize)
            return
        if name not in self.shifted:
            self._shift(self._copy(quantize))
        for node in reversed(moves):
            if node.output[0] not in self.shifted:
                self._copy(node).input[0] = self.shifted[node.input[0]]
        dequantize.input[0] = self.shifted[dequantize.input[0]]
        self._shift(dequantize)

    def _in_middle(self, node: NodeProto) -> bool:
        """Whether a QuantizeLinear or DequantizeLinear has zero point 128 throughout."""
        point = self.value(node, 2) if _is(node, "QuantizeLinear", "DequantizeLinear") else None
        return point is not None and point.dtype == np.uint8 and bool(np.all(point == _MIDDLE))

    def _shift(self, node: NodeProto) -> None:
        """Zero point 127, and a scale that is larger by the one factor by which all are."""
        scale = np.asarray(self.value(node, 1))
        wider = np.nextafter((scale.astype(np.float64) * 128.5 / 127.5).astype(scale.dtype), scale.dtype.type(np.inf))
        node.input[1:] = [
            self.constant(f"{node.output[0]}_scale", wider),
            self.constant(f"{node.output[0]}_zero_point", np.full(scale.shape, _MIDDLE - 1, np.uint8)),
        ]

    def _lower(self, dequantize: NodeProto) -> None:
        """Zero point 127, and each step one lower, but for the lowest."""
        name = dequantize.input[0]
        if name not in self.lowered:
            wide, least, moved, twin = (
                self.names.new(f"{name}_{kind}") for kind in ("wide", "least", "moved", "lower")
            )
            one = self.constant("one_step", np.asarray(1, np.int32))
            self.added += [
                helper.make_node("Cast", [name], [wide], self.names.new(f"{wide}_node"), to=TensorProto.INT32),
                helper.make_node("Max", [wide, one], [least], self.names.new(f"{least}_node")),
                helper.make_node("Sub", [least, one], [moved], self.names.new(f"{moved}_node")),
                helper.make_node("Cast", [moved], [twin], self.names.new(f"{twin}_node"), to=TensorProto.UINT8),
            ]
            self.lowered[name] = twin
        point = np.asarray(self.value(dequantize, 2)) - np.uint8(1)
        dequantize.input[0] = self.lowered[name]
        dequantize.input[2] = self.constant(f"{dequantize.output[0]}_zero_point", point)

    def _widen(self, cast: NodeProto) -> None:
        """int32 between 8 bits and floats."""
        self.types = self.types or inferred_types(self.model)
        made = attributes(cast)["to"]
        if self.types.get(cast.input[0]) in _BITS and made in _FLOATS:
            wide = self.names.new(f"{cast.input[0]}_wide")
            node = helper.make_node(
                "Cast", [cast.input[0]], [wide], self.names.new(f"{wide}_node"), to=TensorProto.INT32
            )
            self.added.append(node)
            cast.input[0] = wide

    def _copy(self, source: NodeProto) -> NodeProto:
        """A node beside one that makes a tensor, for its twin with zero point 127."""
        node, name = NodeProto(), source.output[0]
        node.CopyFrom(source)
        node.name, node.output[0] = self.names.new(source.name or name), self.names.new(f"{name}_shifted")
        self.shifted[name] = node.output[0]
        self.added.append(node)
        return node


def _read_by_products(graph: GraphProto) -> set[str]:
    """Tensors that nothing but products reads, directly or through nodes that only move values."""
    read, others = set[str](), set[str]()
    for node in reversed(graph.node):
        read |= reads(node)
        if not _is(node, *_PRODUCTS) and not (_moves(node) and node.output[0] not in others):
            others |= reads(node)
    return read - others


def _second_factors(graph: GraphProto) -> list[NodeProto]:
    """DequantizeLinear and Cast nodes whose values get to a product as another factor than the first.

    They get there through any nodes but products, QuantizeLinear and other DequantizeLinear.
    """
    made_by, found, passed = producers(graph), list[NodeProto](), set[str]()
    waiting = [
        name
        for node in graph.node
        for name in (node.input[1:2] if _is(node, *_PRODUCTS) else node.input if _is(node, _EINSUM) else ())
    ]
    while waiting:
        name = waiting.pop()
        node = made_by.get(name)
        if node is None or name in passed:
            continue
        passed.add(name)
        if _is(node, "DequantizeLinear", "Cast"):
            found.append(node)
        if not _is(node, "QuantizeLinear", "DequantizeLinear", _EINSUM, *_PRODUCTS):
            waiting.extend(sorted(reads(node)))
    return found


def _pairs(values: NDArray[np.float32], axis: int | None, alone: bool) -> tuple[NDArray[np.float32], int | None]:
    """Values of which any two may be added, and their axis: each value twice where it may meet itself."""
    if alone:
        return values, axis
    return np.stack([values, values]), None if axis is None else axis + 1


def _is(node: NodeProto, *operators: str) -> bool:
    return node.op_type in operators and is_standard(node)


def _moves(node: NodeProto) -> bool:
    return node.op_type in MOVES_ONE_INPUT and is_standard(node)


def _along(axis: int | None, values: NDArray[Any], of_channel: NDArray[Any]) -> NDArray[Any]:
    """One value, or one for each index of an axis, in the shape that `values` is computed with."""
    return of_channel.reshape([-1 if place == axis else 1 for place in range(values.ndim)])

"""int8 tensors as uint8 with the same values: what ONNX Runtime needs where 8 x 8 bits saturate.

With its exact kernels asked for it makes constant weights unsigned, and what a QuantizeLinear makes for one
DequantizeLinear with one reader. Any other int8 tensor stays as it is, and as the second factor of a uint8 one, in a
MatMul, Gemm, Conv or MatMulInteger, it saturates (ONNX Runtime 1.31): one that was moved in its 8 bits, is read twice,
observed or handed in, or has a scale for each column. So do constant weights of a MatMulInteger in sessions with basic
optimizations or none, which rewrite no weight.

From opset 21 on it opens no graph on x86, whatever the class, in which an int8 tensor that a QuantizeLinear makes is
moved after its DequantizeLinear: it makes another QuantizeLinear behind the move, with int8 as its `output_dtype`, and
then a uint8 zero point for that.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from regiolect.graphs.known import Known
from regiolect.graphs.protos import (
    MOVES_ONE_INPUT,
    drop_unread,
    inferred_types,
    is_standard,
    opset,
    producers,
    reads,
    sort_nodes,
)
from regiolect.graphs.qdq import Names

# By operator: the input that may be int8, and its zero point. Which first factors a product has makes no difference.
_READERS = {"DequantizeLinear": (0, 2), "MatMulInteger": (1, 3)}
_OFFSET = 128
# The first opset in which a QuantizeLinear may name its type.
NAMED_TYPES = 21


def unsigned(model: ModelProto, *, every: bool = False) -> ModelProto:
    """The same model in which products read no int8 tensor that ONNX Runtime would leave as it is or fail at, or, with
    `every`, none that is computed; itself if there is none.

    Scales stay; steps and zero points move by 128 alike, so every value is what it was. Nodes inside of control flow
    are left as they are; an export has none.
    """
    if not any(node.op_type in _READERS and is_standard(node) for node in model.graph.node):
        return model
    found = _found(model, every)
    if not found:
        return model
    result = ModelProto()
    result.CopyFrom(model)
    rewriting = _Rewriting(result)
    for place in found:
        rewriting.reader(result.graph.node[place])
    result.graph.node.extend(rewriting.added)
    sort_nodes(result.graph)
    drop_unread(result.graph)
    return result


def _found(model: ModelProto, every: bool) -> list[int]:
    """Places of the nodes that read such a tensor."""
    fails = opset(model) >= NAMED_TYPES
    known, made_by = Known(model), producers(model.graph)
    uses = Counter(name for node in model.graph.node for name in (*node.input, *(reads(node) - set(node.input))))
    uses.update(value.name for value in model.graph.output)
    types: dict[str, int] = {}
    found = []
    for place, node in enumerate(model.graph.node):
        if node.op_type not in _READERS or not is_standard(node):
            continue
        name, point = (_input(node, each) for each in _READERS[node.op_type])
        if name in known and (every or node.op_type != "MatMulInteger"):
            continue
        zero = known.get(point)
        if zero is None:
            types = types or inferred_types(model)
        if (types.get(name) if zero is None else zero.data_type) != TensorProto.INT8:
            continue
        quantize = made_by.get(name)
        # ONNX Runtime makes the two uint8 by itself.
        beside = quantize is not None and node.op_type == "DequantizeLinear" and _is(quantize, "QuantizeLinear")
        alike = not every and not fails and beside and quantize is not None and quantize.input[1:] == node.input[1:]
        if alike and zero is not None and np.prod(zero.dims) == 1 and uses[name] == 1 == uses[node.output[0]]:
            continue
        found.append(place)
    return found


class _Rewriting:
    """A graph, the uint8 twins of its int8 tensors, and the nodes that make them."""

    def __init__(self, model: ModelProto) -> None:
        self.graph, self.known, self.names = model.graph, Known(model), Names(model.graph)
        self.made_by = {
            name: NodeProto.FromString(node.SerializeToString()) for name, node in producers(model.graph).items()
        }
        self.twins: dict[str, str] = {}
        self.added: list[NodeProto] = []

    def reader(self, node: NodeProto) -> None:
        """Let a node read the twin, and a zero point that goes with it."""
        values, place = _READERS[node.op_type]
        point = self._point(node, place)
        node.input[values] = self._twin(node.input[values])
        _set_input(node, place, point)

    def _twin(self, name: str) -> str:
        moves = []
        while not (name in self.twins or name in self.known) and name in self.made_by and _moves(self.made_by[name]):
            moves.append(name)
            name = self.made_by[name].input[0]
        if name not in self.twins:
            self.twins[name] = self._made(name)
        for moved in reversed(moves):
            node = self._copy(self.made_by[moved], moved)
            node.input[0] = self.twins[name]
            self.twins[moved] = node.output[0]
            name = moved
        return self.twins[name]

    def _made(self, name: str) -> str:
        constant = self.known.get(name)
        if constant is not None:
            return self._constant(f"{name}_unsigned", _moved(constant))
        source = self.made_by.get(name)
        if source is not None and _is(source, "QuantizeLinear"):
            node = self._copy(source, name)
            _set_input(node, 2, self._point(source, 2))
            kept = [attribute for attribute in source.attribute if attribute.name != "output_dtype"]
            del node.attribute[:]
            node.attribute.extend(kept)
            return str(node.output[0])
        wide = self._add("Cast", [name], f"{name}_wide", to=TensorProto.INT32)
        moved = self._add("Add", [wide, self._constant("int8_to_uint8", np.int32(_OFFSET))], f"{name}_moved")
        return self._add("Cast", [moved], f"{name}_unsigned", to=TensorProto.UINT8)

    def _point(self, node: NodeProto, place: int) -> str:
        """The zero point of a reader or QuantizeLinear, moved; without one it was 0."""
        name = _input(node, place)
        if name:
            tensor = self.known.get(name)
            if tensor is None:
                return self._twin(name)
            return self._constant(f"{name}_unsigned", _moved(tensor))
        if node.op_type == "MatMulInteger":
            return self._constant("zero_point_unsigned", np.uint8(_OFFSET))
        scale = self.known.get(node.input[1])
        if scale is not None:
            return self._constant(f"{node.input[1]}_zero_point", np.full(tuple(scale.dims), _OFFSET, np.uint8))
        shape = self._add("Shape", [node.input[1]], f"{node.input[1]}_shape")
        value = numpy_helper.from_array(np.asarray([_OFFSET], np.uint8))
        return self._add("ConstantOfShape", [shape], f"{node.input[1]}_zero_point", value=value)

    def _copy(self, source: NodeProto, name: str) -> NodeProto:
        node = NodeProto()
        node.CopyFrom(source)
        node.name, node.output[0] = self.names.new(source.name or name), self.names.new(f"{name}_unsigned")
        self.added.append(node)
        return node

    def _add(self, operator: str, inputs: list[str], wanted: str, **attributes: Any) -> str:
        output = self.names.new(wanted)
        self.added.append(helper.make_node(operator, inputs, [output], self.names.new(f"{output}_node"), **attributes))
        return output

    def _constant(self, wanted: str, value: NDArray[np.generic] | np.generic) -> str:
        name = self.names.new(wanted)
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name


def _moved(tensor: TensorProto) -> NDArray[np.uint8]:
    """int8 steps as uint8 ones."""
    return (numpy_helper.to_array(tensor).astype(np.int16) + _OFFSET).astype(np.uint8)


def _is(node: NodeProto, operator: str) -> bool:
    return node.op_type == operator and is_standard(node)


def _moves(node: NodeProto) -> bool:
    return node.op_type in MOVES_ONE_INPUT and is_standard(node)


def _input(node: NodeProto, place: int) -> str:
    return node.input[place] if place < len(node.input) else ""


def _set_input(node: NodeProto, place: int, name: str) -> None:
    node.input.extend([""] * (place + 1 - len(node.input)))
    node.input[place] = name

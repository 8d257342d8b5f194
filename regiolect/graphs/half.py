"""FP16: a float32 graph as float16, float32 at its inputs and outputs and wherever it has to stay wider."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, numpy_helper
from onnx.defs import OpSchema

from regiolect.errors import PrecisionOverflow, UnsupportedOperator
from regiolect.graphs.protos import attribute_graphs, check, is_standard, opset, tensor_types, with_opset
from regiolect.graphs.qdq import Names

LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = np.finfo(np.float16).smallest_subnormal
_HALF = "tensor(float16)"
# Their output's type is said by an attribute that is rewritten here; others of that kind stay float32.
_TYPED_BY_ATTRIBUTE = ("Cast", "Constant", "ConstantOfShape")
# ONNX says that they take float16, and defines them by functions that do not.
_NEVER_NARROW = ("MeanVarianceNormalization",)
_QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")


def halved(model: ModelProto, wide: Collection[str] = ()) -> ModelProto:
    """Every float32 tensor inside a normalized graph as float16; graph inputs and outputs stay float32 behind Casts.

    Float32 stay the operators whose first output is in `wide`, those for which ONNX defines no float16 (Range, ...),
    and the inputs that it wants in float32 (the scales of Resize). What passes between two float32 operators is never
    float16, so a value beyond float16's range survives there; a constant is kept in each type that reads it. A
    DequantizeLinear has the type of its reader and a QuantizeLinear that of what it reads, so that no Cast comes
    between a quantized operator and its operands. Constants nearer to zero than float16 can hold become its smallest.

    Raises:
        PrecisionOverflow: a float16 operator reads a constant beyond 65504. Infinities stay infinite.
        UnsupportedOperator: control flow, operators outside the ONNX standard or sparse weights; or Q/DQ nodes in an
            opset that has them in float32 only and cannot be raised.
        InvalidOnnx: the graph is not valid to begin with.
    """
    refuse_unreadable(model.graph)
    if any(node.op_type in _QUANTIZERS for node in model.graph.node):
        model = with_opset(model, 19, "QuantizeLinear and DequantizeLinear with float16 scales")
    result = ModelProto()
    result.CopyFrom(check(model))
    _lift_constants(result.graph)
    _Halving(result, frozenset(wide)).rewrite()
    return result


def refuse_unreadable(graph: GraphProto) -> None:
    """Stop at what cannot be typed float16 with any certainty.

    Raises:
        UnsupportedOperator: control flow, whose branches no calibration sees; operators of other domains, whose types
            nobody knows; sparse weights.
    """
    for node in graph.node:
        branches = next(attribute_graphs(node), None) is not None
        if branches or not is_standard(node):
            kind = node.op_type if is_standard(node) else f"{node.domain}.{node.op_type}"
            raise UnsupportedOperator(
                expected="a graph of plain ONNX operators to be typed FP16, without control flow",
                found=f"{kind} {node.name or node.output[0]!r}",
                remedy="replace branches by torch.where, unroll loops and export without vendor operators, or give the "
                "region FP32",
            )
    for sparse in graph.sparse_initializer:
        raise UnsupportedOperator(
            expected="dense initializers in a graph to be typed FP16",
            found=f"the sparse initializer {sparse.values.name!r}",
            remedy="export the model with dense weights",
        )


def _lift_constants(graph: GraphProto) -> None:
    """Float Constants as initializers, so that each reader can have them in its own type."""
    kept = []
    for node in graph.node:
        held = node.attribute[0] if node.op_type == "Constant" else None
        if held is not None and held.name == "value" and held.t.data_type == TensorProto.FLOAT:
            tensor = TensorProto.FromString(held.t.SerializeToString())
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(NodeProto.FromString(node.SerializeToString()))
    del graph.node[:]
    graph.node.extend(kept)


@dataclass
class _Halving:
    """One graph on its way to float16. A tensor's own name has the type of what makes it."""

    model: ModelProto
    wide: frozenset[str]
    types: dict[str, int] = field(init=False)
    halves: set[str] = field(default_factory=set, init=False)
    nodes: list[NodeProto] = field(default_factory=list, init=False)
    made: dict[tuple[str, bool], str] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        self.graph = self.model.graph
        self.opset = opset(self.model)
        self.names = Names(self.graph)
        self.types = tensor_types(self.graph)
        self.weights = {tensor.name: tensor for tensor in self.graph.initializer}
        self.outputs = {value.name for value in self.graph.output}

    def rewrite(self) -> None:
        source = [NodeProto.FromString(node.SerializeToString()) for node in self.graph.node]
        narrow = [self._narrow(node) for node in source]
        self._type_dequantizers(source, narrow)
        initializers: dict[str, TensorProto] = {}
        for node, decided in zip(source, narrow, strict=True):
            half = self._follows(node) if decided is None else decided
            wanted = self._wanted(node, half)
            for position, name in enumerate(node.input):
                if self._is_float(name):
                    node.input[position] = self._read(name, position in wanted, node, initializers)
            if half:
                _retype(node)
            self.nodes.append(node)
            self._name_outputs(node, half)
        for tensor in self.graph.initializer:
            if not self._is_float(tensor.name) or tensor.name in self.outputs:
                initializers.setdefault(tensor.name, tensor)
        self._write(list(initializers.values()))

    def _is_float(self, name: str) -> bool:
        return self.types.get(name) == TensorProto.FLOAT

    def _narrow(self, node: NodeProto) -> bool | None:
        """Whether a node computes in float16; None for one that takes what it reads as it comes."""
        if node.output[0] in self.wide or node.op_type in _NEVER_NARROW:
            return False
        if any(name and name not in self.types for name in (*node.input, *node.output)):
            return False  # A sequence: what is in it stays as it came.
        schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        read = {parameter(schema.inputs, position).type_str for position in range(len(node.input))}
        floats = [parameter(schema.outputs, place) for place, name in enumerate(node.output) if self._is_float(name)]
        if not floats:
            return None
        return all(
            _HALF in found.types and (found.type_str in read or node.op_type in _TYPED_BY_ATTRIBUTE) for found in floats
        )

    def _follows(self, node: NodeProto) -> bool:
        return any(name in self.halves for name in node.input)

    def _wanted(self, node: NodeProto, half: bool) -> set[int]:
        """Positions of the inputs that a node reads as float16."""
        if not half:
            return set()
        schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        return {position for position in range(len(node.input)) if _HALF in parameter(schema.inputs, position).types}

    def _type_dequantizers(self, nodes: list[NodeProto], narrow: list[bool | None]) -> None:
        """Give each DequantizeLinear its readers' type, and one of its own to each type of readers."""
        place = 0
        while place < len(nodes):
            node = nodes[place]
            if node.op_type == "DequantizeLinear":
                name = node.output[0]
                readers = [index for index, other in enumerate(nodes) if name in other.input]
                halves = [index for index in readers if narrow[index] is not False]
                narrow[place] = bool(halves) and name not in self.outputs
                if narrow[place] and len(halves) < len(readers):
                    twin = NodeProto.FromString(node.SerializeToString())
                    twin.output[0], twin.name = self.names.new(f"{name}_wide"), self.names.new(f"{node.name}_wide")
                    self.types[twin.output[0]] = TensorProto.FLOAT
                    for index in set(readers) - set(halves):
                        inputs = [twin.output[0] if each == name else each for each in nodes[index].input]
                        nodes[index].input[:] = inputs
                    nodes.insert(place + 1, twin)
                    narrow.insert(place + 1, False)
                    place += 1
            place += 1

    def _read(self, name: str, half: bool, node: NodeProto, initializers: dict[str, TensorProto]) -> str:
        """The name under which a tensor is there in the wanted type; made where it is not."""
        if name in self.weights:
            return self._constant(name, half, node, initializers)
        if half == (name in self.halves):
            return self.made.get((name, half), name)
        if (name, half) not in self.made:
            cast = self.names.new(f"{name}_{'half' if half else 'wide'}")
            kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
            label = self.names.new(f"{cast}_cast")
            self.nodes.append(onnx.helper.make_node("Cast", [name], [cast], name=label, to=kind))
            self.made[name, half] = cast
        return self.made[name, half]

    def _constant(self, name: str, half: bool, node: NodeProto, initializers: dict[str, TensorProto]) -> str:
        if (name, half) not in self.made:
            tensor = self.weights[name]
            if half:
                tensor = numpy_helper.from_array(_rounded(tensor, node))
            both = (name, not half) in self.made or (half and name in self.outputs)
            copy = TensorProto.FromString(tensor.SerializeToString())
            copy.name = self.names.new(f"{name}_{'half' if half else 'wide'}") if both else name
            initializers[copy.name] = copy
            self.made[name, half] = copy.name
        return self.made[name, half]

    def _name_outputs(self, node: NodeProto, half: bool) -> None:
        """Note what a node makes in float16; a graph output is handed on as float32."""
        for position, name in enumerate(node.output):
            if not (half and self._is_float(name)):
                continue
            self.halves.add(name)
            if name in self.outputs:
                inner = self.names.new(f"{name}_half")
                node.output[position] = inner
                label = self.names.new(f"{name}_cast")
                self.nodes.append(onnx.helper.make_node("Cast", [inner], [name], name=label, to=TensorProto.FLOAT))
                self.made[name, True], self.made[name, False] = inner, name

    def _write(self, initializers: list[TensorProto]) -> None:
        copies = [TensorProto.FromString(tensor.SerializeToString()) for tensor in initializers]
        infos = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in self.graph.value_info]
        made = {name for node in self.nodes for name in node.output}
        for value in infos:
            if value.name in self.halves:
                value.type.tensor_type.elem_type = TensorProto.FLOAT16
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(copies)
        self.graph.value_info.extend(value for value in infos if value.name in made)


def parameter(formal: Collection[OpSchema.FormalParameter], position: int) -> OpSchema.FormalParameter:
    """The formal parameter at a position; the last one may stand for many."""
    listed = list(formal)
    return listed[min(position, len(listed) - 1)]


def _rounded(tensor: TensorProto, node: NodeProto) -> np.ndarray[tuple[int, ...], np.dtype[np.float16]]:
    values = numpy_helper.to_array(tensor)
    too_large = np.isfinite(values) & (np.abs(values) > LARGEST)
    if np.any(too_large):
        raise PrecisionOverflow(
            expected=f"constants within float16's range, at most {LARGEST:g} in magnitude",
            found=f"{float(np.abs(values[too_large]).max()):g} in {tensor.name!r}, which {node.op_type} "
            f"{node.name or node.output[0]!r} reads, and {int(too_large.sum())} such values in all",
            remedy="rescale the layer, write masks as -inf or -1e4, or give the region FP32",
        )
    rounded = values.astype(np.float16)
    return np.where((rounded == 0) & (values != 0), np.copysign(_SMALLEST, rounded), rounded).astype(np.float16)


def _retype(node: NodeProto) -> None:
    """Let an attribute that says float32 say float16."""
    for attribute in node.attribute:
        if attribute.name in ("to", "output_dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        if attribute.HasField("t") and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(_rounded(attribute.t, node), attribute.t.name))
    if node.op_type == "ConstantOfShape" and not node.attribute:
        zero = numpy_helper.from_array(np.zeros(1, np.float16))
        node.attribute.append(onnx.helper.make_attribute("value", zero))

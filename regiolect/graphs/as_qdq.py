"""QLinearConv and QLinearMatMul, written with QuantizeLinear and DequantizeLinear: the form that later steps handle.

Both forms say the same, by ONNX's definition of these operators, and runtimes make integer kernels of either. Left as
they are, their int8 weights saturate where 8 x 8 bits do: in OpenVINO, and products in ONNX Runtime with its exact
kernels asked for as well.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from regiolect.errors import UnsupportedOperator
from regiolect.graphs.known import Known
from regiolect.graphs.protos import is_standard, with_opset
from regiolect.graphs.qdq import Names

_OPERATORS = {"QLinearConv": "Conv", "QLinearMatMul": "MatMul"}
# The first in which Q/DQ nodes have an axis.
_OPSET = 13


def as_qdq(model: ModelProto) -> ModelProto:
    """The same model without these operators; itself if it has none. Control flow is not looked into.

    Raises:
        UnsupportedOperator: scales that depend on an input, or not one for a tensor, row or column; or an opset below
            13 that ONNX's converter cannot raise.
    """
    if not any(_meant(node) for node in model.graph.node):
        return model
    result = ModelProto()
    result.CopyFrom(with_opset(model, _OPSET, "quantized operators"))
    writing = _Writing(result)
    nodes = [made for node in result.graph.node for made in (writing.rewritten(node) if _meant(node) else [node])]
    copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del result.graph.node[:]
    result.graph.node.extend(copies)
    return result


def _meant(node: NodeProto) -> bool:
    return node.op_type in _OPERATORS and is_standard(node)


class _Writing:
    """A graph that is being rewritten; new nodes are made in the order in which they run."""

    def __init__(self, model: ModelProto) -> None:
        self.graph, self.known, self.names = model.graph, Known(model), Names(model.graph)
        self.node = NodeProto()
        self.made: list[NodeProto] = []

    def rewritten(self, node: NodeProto) -> list[NodeProto]:
        """What stands in the place of a node."""
        self.node, self.made = node, []
        x, x_scale, x_point, w, w_scale, w_point, y_scale, y_point, *bias = node.input
        convolution = node.op_type == "QLinearConv"
        # A product may have a scale for each row of its first factor and of its answer, and one for each column of its
        # second; a convolution one for each output channel of its weight.
        rows, columns = (None, 0) if convolution else (-2, -1)
        operands = [self._dequantized(x, x_scale, x_point, rows), self._dequantized(w, w_scale, w_point, columns)]
        if bias and bias[0]:
            operands.append(self._bias(bias[0], x_scale, w_scale))
        wide = self.names.new(f"{node.output[0]}_wide")
        operator = helper.make_node(_OPERATORS[node.op_type], operands, [wide], name=node.name)
        operator.attribute.extend(node.attribute)
        self.made.append(operator)
        scale, point, axis = self._steps(y_scale, y_point, rows)
        self._add("QuantizeLinear", [wide, scale, point], node.output[0], axis)
        return self.made

    def _dequantized(self, values: str, scale: str, point: str, axis: int | None) -> str:
        scale, point, given = self._steps(scale, point, axis)
        return self._add("DequantizeLinear", [values, scale, point], self.names.new(f"{values}_dequantized"), given)

    def _bias(self, values: str, x_scale: str, w_scale: str) -> str:
        """int32, in steps of input times weight."""
        steps = (self._constant(x_scale) * self._constant(w_scale)).astype(np.float32)
        scale = self._new(f"{values}_scale", steps.reshape(()) if steps.size == 1 else steps.ravel())
        output = self.names.new(f"{values}_dequantized")
        return self._add("DequantizeLinear", [values, scale], output, 0 if steps.size > 1 else None)

    def _steps(self, scale: str, point: str, axis: int | None) -> tuple[str, str, int | None]:
        """Scale and zero point as Q/DQ nodes take them: scalars, or vectors along an axis; None: scalars alone."""
        steps, zero = self._constant(scale), self._constant(point)
        if zero.size not in (1, steps.size):
            raise self._refused(f"scale {scale!r} of shape {steps.shape} with zero point {point!r} of {zero.shape}")
        if steps.size == 1:
            return self._new(scale, steps.reshape(())), self._new(point, zero.reshape(())), None
        if steps.ndim != 1 or axis is None:
            raise self._refused(f"scale {scale!r} of shape {steps.shape}")
        return scale, self._new(point, np.broadcast_to(zero.ravel(), steps.shape)), axis

    def _constant(self, name: str) -> NDArray[Any]:
        tensor = self.known.get(name)
        if tensor is None:
            raise self._refused(f"scale or zero point {name!r} that is computed")
        return numpy_helper.to_array(tensor)

    def _new(self, name: str, value: NDArray[Any]) -> str:
        """The name of a constant of that value and shape: the given one, where it is."""
        if name in self.known and np.array_equal(self._constant(name), value):
            return name
        tensor = numpy_helper.from_array(np.ascontiguousarray(value).reshape(value.shape), self.names.new(name))
        self.graph.initializer.append(tensor)
        self.known.add(tensor)
        return str(tensor.name)

    def _add(self, operator: str, inputs: list[str], output: str, axis: int | None) -> str:
        attributes: dict[str, Any] = {} if axis is None else {"axis": axis}
        self.made.append(helper.make_node(operator, inputs, [output], self.names.new(f"{output}_node"), **attributes))
        return output

    def _refused(self, found: str) -> UnsupportedOperator:
        return UnsupportedOperator(
            expected=f"operator {self.node.op_type!r} at node {self.node.name or self.node.output[0]!r} with constant "
            "scales, one for each tensor, row or column",
            found=found,
            remedy="quantize the model with QuantizeLinear and DequantizeLinear nodes (for ONNX Runtime's tools: "
            "quant_format=QuantFormat.QDQ), or hand in the float model",
        )

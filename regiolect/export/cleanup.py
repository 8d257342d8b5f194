"""Clean-up of a graph: checks, constant folding, fusions, shapes, and nothing local left in the bytes.

onnxscript's optimizer does the work, for the torch exporter needs it anyway and it keeps Q/DQ nodes by design.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, TextIO

import onnx
from onnx import ModelProto, TensorProto

from regiolect.contracts import TensorSpec
from regiolect.errors import InvalidModelSpec, InvalidOnnx, UnsupportedOperator
from regiolect.export.parity import last_line
from regiolect.graphs.as_qdq import as_qdq
from regiolect.graphs.known import Known
from regiolect.graphs.protos import infer_shapes
from regiolect.model import ModelSpec

if TYPE_CHECKING:
    import onnx_ir as ir

# 19 is the first opset whose Q/DQ nodes take FP16 scales, 20 the newest that current exporters take by default.
# OpenVINO 2026.4, ONNX Runtime 1.31 and TensorRT-RTX 1.7 read 20 to 23.
OPSET = 20
NEWEST_OPSET = 23
STANDARD_DOMAINS = ("", "ai.onnx")
CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
QUANTIZATION = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
INTEGER_COMPUTE = ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")
_NARROW_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
_PROTOBUF_LIMIT = 2**31 - 1
# Weights are folded whatever their size; a fold may grow the file by 4 million values at most.
_FOLD_INPUT_LIMIT = 2**31
_FOLD_OUTPUT_LIMIT = 2**22


def clean(spec: ModelSpec, model: ModelProto) -> ModelProto:
    """The graph cleaned: constants folded, batch norms fused, shapes inferred, local traces stripped.

    In a graph with Q/DQ nodes only constants outside of them are folded, so that its arithmetic stays as it was.
    QLinearConv and QLinearMatMul become such nodes (`regiolect.graphs.as_qdq`).
    `model` is left as it is.

    Raises:
        InvalidModelSpec: inputs or outputs differ from the spec.
        InvalidOnnx: the checker refuses the result, it is not FP32, or it is larger than 2 GiB.
        UnsupportedOperator: control flow is left, operators that are not standard, or quantized ones with scales that
            Q/DQ nodes do not have.
    """
    cleaned = ModelProto()
    cleaned.CopyFrom(model)
    refuse_foreign_operators(cleaned)
    cleaned = as_qdq(cleaned)
    with quiet():
        # Shapes first: they let the optimizer replace computed reshape targets by constants.
        cleaned = _optimise(infer_shapes(cleaned))
    set_interface(spec, cleaned)
    strip(cleaned)
    cleaned.graph.name = spec.name
    refuse_control_flow(cleaned)
    cleaned = infer_and_check(spec, cleaned)
    _refuse_narrow_floats(spec, cleaned)
    if cleaned.ByteSize() > _PROTOBUF_LIMIT:
        raise InvalidOnnx(
            expected=f"a graph of {spec.name!r} of at most 2 GiB",
            found=f"{cleaned.ByteSize() / 2**30:.1f} GiB",
            remedy="split or prune the model; ONNX keeps at most 2 GiB in one file",
        )
    return cleaned


def _optimise(model: ModelProto) -> ModelProto:
    import onnx_ir as ir
    from onnx_ir.passes import common
    from onnxscript import rewriter

    graph = ir.from_proto(model)
    outputs = [value.name for value in graph.graph.outputs]
    quantized = any(node.op_type in QUANTIZATION for node in graph.graph)
    for _ in range(2):
        # Two rounds, as folding opens fusions and fusing opens folds.
        fold(graph)
        if not quantized:
            rewriter.rewrite(graph)
        common.RemoveUnusedNodesPass()(graph)
    common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(graph)
    if not quantized:
        common.IdentityEliminationPass()(graph)
        common.CommonSubexpressionEliminationPass()(graph)
        common.DeduplicateInitializersPass()(graph)
    common.RemoveUnusedNodesPass()(graph)
    common.RemoveUnusedOpsetsPass()(graph)
    common.OutputFixPass()(graph)
    # Two outputs of one tensor were given one name, and another beside it.
    for value, name in zip(graph.graph.outputs, outputs, strict=True):
        value.name = name
    common.NameFixPass()(graph)
    common.TopologicalSortPass()(graph)
    return ir.to_proto(graph)


def fold(graph: ir.Model) -> None:
    """Fold what follows from constants and fixed shapes, in place; branches of such an If take its place."""
    from onnxscript import optimizer

    optimizer.fold_constants(
        graph,
        onnx_shape_inference=True,
        input_size_limit=_FOLD_INPUT_LIMIT,
        output_size_limit=_FOLD_OUTPUT_LIMIT,
    )


def set_interface(spec: ModelSpec, model: ModelProto) -> None:
    """Check the inputs and outputs against the spec; write its order, fixed extents and symbolic names into the graph.

    Inferred shapes are dropped, for they may bear other names; infer again afterwards. Outputs keep as many dimensions.

    Raises:
        InvalidModelSpec: names, dtypes or shapes differ.
    """
    inputs = {value.name: value for value in model.graph.input}
    outputs = {value.name: value for value in model.graph.output}
    wanted_inputs = [tensor.name for tensor in spec.inputs]
    for kind, wanted, there in (("inputs", wanted_inputs, inputs), ("outputs", list(spec.outputs), outputs)):
        if set(wanted) != set(there) or len(set(wanted)) != len(wanted):
            raise InvalidModelSpec(
                expected=f"the {kind} of the model in ModelSpec {spec.name!r}: {', '.join(there)}",
                found=", ".join(wanted),
                remedy=f"correct `{kind}` in the ModelSpec, or the names in the model",
            )
    for tensor in spec.inputs:
        _set_input(spec, tensor, inputs[tensor.name])
    ordered_inputs = [_copied(inputs[name]) for name in wanted_inputs]
    ordered_outputs = [_copied(outputs[name]) for name in spec.outputs]
    for value in ordered_outputs:
        for dim in value.type.tensor_type.shape.dim:
            dim.Clear()
    for field, values in ((model.graph.input, ordered_inputs), (model.graph.output, ordered_outputs)):
        del field[:]
        field.extend(values)
    del model.graph.value_info[:]


def _set_input(spec: ModelSpec, tensor: TensorSpec, value: onnx.ValueInfoProto) -> None:
    found_type = value.type.tensor_type
    dimensions = found_type.shape.dim
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or "?") for dim in dimensions)
    same_type = found_type.elem_type == TensorProto.FLOAT
    same_shape = len(shape) == len(tensor.shape) and all(
        isinstance(there, str) or there == wanted for wanted, there in zip(tensor.shape, shape, strict=True)
    )
    if not (same_type and same_shape):
        dtype = TensorProto.DataType.Name(found_type.elem_type).lower()
        raise InvalidModelSpec(
            expected=f"input {tensor.name!r} of {spec.name!r} as in its ModelSpec: {tensor.dtype} {tensor.shape}",
            found=f"{dtype} {shape} in the model",
            remedy="correct the TensorSpec, or export the model again with these dimensions dynamic "
            "(dynamic_shapes= in torch.onnx.export)",
        )
    for dim, wanted in zip(dimensions, tensor.shape, strict=True):
        dim.Clear()
        if isinstance(wanted, str):
            dim.dim_param = wanted
        else:
            dim.dim_value = wanted


def _copied(value: onnx.ValueInfoProto) -> onnx.ValueInfoProto:
    copy = onnx.ValueInfoProto()
    copy.CopyFrom(value)
    return copy


def infer_and_check(spec: ModelSpec, model: ModelProto) -> ModelProto:
    """The graph with inferred shapes, passed by ONNX's checker; its outputs keep the batch as first dimension.

    Raises:
        InvalidOnnx: the checker or shape inference refuse the graph.
        InvalidModelSpec: an output has lost the batch, has it elsewhere, or depends on no input.
    """
    try:
        inferred = _inferred(model)
        onnx.checker.check_model(inferred)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, ValueError) as error:
        raise InvalidOnnx(
            expected=f"a graph of {spec.name!r} that ONNX's checker accepts",
            found=last_line(error),
            remedy="export the model again; if the file came from elsewhere, it may be damaged",
        ) from error
    _refuse_constant_outputs(spec, inferred)
    refuse_moved_batch(spec, inferred)
    batch = spec.inputs[0].shape[0]
    for value in inferred.graph.output:
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and dimensions[0].HasField("dim_value"):
            raise InvalidModelSpec(
                expected=f"output {value.name!r} of {spec.name!r} with the batch {batch!r} as first dimension",
                found=f"{dimensions[0].dim_value}, whatever the batch",
                remedy="return one row per sample; take out reshapes and reductions over the batch",
            )
        if dimensions:
            # Inference loses the name at reshapes; that it is the batch is proved by running, in parity.compare.
            dimensions[0].dim_param = str(batch)
    return inferred


def refuse_moved_batch(spec: ModelSpec, inferred: ModelProto) -> None:
    """Raises InvalidModelSpec for the first output whose batch is another dimension than the first."""
    batch = spec.inputs[0].shape[0]
    for value in inferred.graph.output:
        shape = tuple(dim.dim_param or dim.dim_value or "?" for dim in value.type.tensor_type.shape.dim)
        if batch in shape[1:] and shape[0] != batch:
            raise InvalidModelSpec(
                expected=f"output {value.name!r} of {spec.name!r} with the batch {batch!r} as first dimension",
                found=f"it as dimension {shape.index(batch)} of ({', '.join(map(str, shape))})",
                remedy="move the batch to the front at the model's end: `return output.transpose(0, 1)` where time or "
                "another dimension comes first; and export again",
            )


def _refuse_constant_outputs(spec: ModelSpec, model: ModelProto) -> None:
    known = Known(model)
    for value in model.graph.output:
        if value.name in known:
            raise InvalidModelSpec(
                expected=f"output {value.name!r} of {spec.name!r} to depend on the model's inputs",
                found="a constant, the same for every sample",
                remedy="export the model without this output, and keep the constant beside it",
            )


def _inferred(model: ModelProto) -> ModelProto:
    """The graph with its inferred shapes; an output of which none is told keeps its number of dimensions."""
    open_shapes = ModelProto()
    open_shapes.CopyFrom(model)
    for value in open_shapes.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = infer_shapes(open_shapes, strict=True)
    for found, declared in zip(inferred.graph.output, model.graph.output, strict=True):
        if not found.type.tensor_type.HasField("shape") and declared.type.tensor_type.HasField("shape"):
            found.type.tensor_type.shape.CopyFrom(declared.type.tensor_type.shape)
    return inferred


def refuse_foreign_operators(model: ModelProto) -> None:
    """Raises UnsupportedOperator for the first operator that is not in the ONNX standard at the graph's opset."""
    opset = opset_of(model)
    for node in _nodes(model.graph):
        standard = node.domain in STANDARD_DOMAINS
        if standard and onnx.defs.has(node.op_type, opset, ""):
            continue
        domain = node.domain or "ai.onnx"
        raise UnsupportedOperator(
            expected=f"operators of the ONNX standard, opset {opset}",
            found=f"operator {node.op_type!r} of domain {domain!r} at node {node.name or node.output[0]!r}",
            remedy="export the model without custom, contrib or fused operators (for ONNX Runtime: before its own "
            "optimisations), so that every backend can compile it",
        )


def refuse_control_flow(model: ModelProto) -> None:
    """Raises UnsupportedOperator for the first If, Loop or Scan."""
    for node in model.graph.node:
        if node.op_type in CONTROL_FLOW:
            raise UnsupportedOperator(
                expected="a graph without control flow, for engines here are compiled ahead of time",
                found=f"operator {node.op_type!r} of domain 'ai.onnx' at node {node.name or node.output[0]!r}",
                remedy="unroll the loop or replace the branch by torch.where, then export again",
            )


def _refuse_narrow_floats(spec: ModelSpec, model: ModelProto) -> None:
    narrow = [tensor.name for tensor in model.graph.initializer if tensor.data_type in _NARROW_FLOATS]
    values = (*model.graph.input, *model.graph.value_info, *model.graph.output)
    narrow += [value.name for value in values if value.type.tensor_type.elem_type in _NARROW_FLOATS]
    if narrow:
        raise InvalidOnnx(
            expected=f"a graph of {spec.name!r} in FP32, with or without Q/DQ nodes",
            found=f"{len(narrow)} tensors in FP16 or BF16, the first is {narrow[0]!r}",
            remedy="hand in the FP32 model; the region's policy decides where it becomes FP16",
        )


def strip(model: ModelProto) -> None:
    """Take out documentation, metadata and producer: they hold local paths and differ from run to run."""
    _strip_message(model)
    model.producer_name = "regiolect"
    for field in ("producer_version", "domain", "model_version"):
        model.ClearField(field)


def _strip_message(message: onnx.ModelProto | onnx.GraphProto | onnx.NodeProto) -> None:
    for field in ("doc_string", "metadata_props"):
        message.ClearField(field)
    if isinstance(message, onnx.ModelProto):
        _strip_message(message.graph)
        return
    if isinstance(message, onnx.NodeProto):
        for attribute in message.attribute:
            attribute.ClearField("doc_string")
            if attribute.HasField("t"):
                attribute.t.ClearField("doc_string")
            for graph in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                _strip_message(graph)
        return
    for node in message.node:
        _strip_message(node)
    for tensor in message.initializer:
        # The default, said or left out, makes a difference in bytes.
        tensor.ClearField("data_location")
    for part in (*message.initializer, *message.input, *message.output, *message.value_info):
        for field in ("doc_string", "metadata_props"):
            part.ClearField(field)


def opset_of(model: ModelProto) -> int:
    """The opset of the standard domain; 0 if the graph imports none."""
    return max((entry.version for entry in model.opset_import if entry.domain in STANDARD_DOMAINS), default=0)


def count_quantized(model: ModelProto) -> int:
    """Nodes, nested ones included, that quantize, dequantize or compute on integers: a graph with one is not FP32."""
    return sum(node.op_type in QUANTIZATION + INTEGER_COMPUTE for node in _nodes(model.graph))


def count_nodes(model: ModelProto) -> int:
    """Nodes of the graph and of everything nested in it."""
    return sum(1 for _ in _nodes(model.graph))


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for nested in (*((attribute.g,) if attribute.HasField("g") else ()), *attribute.graphs):
                yield from _nodes(nested)


class _Muted(io.TextIOBase):
    """A stream that drops what the thread that made it writes, and passes on what others write."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._muted = threading.get_ident()

    def write(self, text: str) -> int:
        return len(text) if threading.get_ident() == self._muted else self._stream.write(text)

    def flush(self) -> None:
        self._stream.flush()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter, its optimizer and their loggers print: what matters reaches users as named errors."""
    loggers = [logging.getLogger(name) for name in ("torch", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL + 1)
    try:
        # torch.export prints whole graphs to stderr when it fails; no setting of its own stops that.
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(_Muted(sys.stdout)),
            contextlib.redirect_stderr(_Muted(sys.stderr)),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

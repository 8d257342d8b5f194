"""What ONNX Runtime says of each kernel: its optimised graph, and the element types that a profiled run saw."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import onnx
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto

from regiolect.contracts import Execution, LayerReport
from regiolect.errors import AttestationFailed
from regiolect.graphs.protos import infer_shapes

# ONNX Runtime's names of element types; 8-bit ones are looked for first: a kernel that reads them is an integer kernel,
# whatever its scales and its output are.
_EXECUTIONS = (
    (frozenset({"int8", "uint8", "int4", "uint4"}), Execution.INT8),
    (frozenset({"bfloat16"}), Execution.BF16),
    (frozenset({"float16"}), Execution.FP16),
    (frozenset({"float"}), Execution.FP32),
)
_INDICES = frozenset({"bool", "int16", "int32", "int64", "uint16", "uint32", "uint64", "string"})
# Kernels that move, reshape or convert values, or run others. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset(
    {
        "Cast",
        "Concat",
        "Constant",
        "ConstantOfShape",
        "DequantizeLinear",
        "Expand",
        "Flatten",
        "Gather",
        "Identity",
        "If",
        "Loop",
        "MemcpyFromHost",
        "MemcpyToHost",
        "Pad",
        "QuantizeLinear",
        "ReorderInput",
        "ReorderOutput",
        "Reshape",
        "Scan",
        "Shape",
        "Slice",
        "Split",
        "Squeeze",
        "Tile",
        "Transpose",
        "Unsqueeze",
    }
)
# What ONNX Runtime's optimisers add to the name of a node, or of the tensor that it makes.
_TOKEN = re.compile(r"_token_\d+$")
_ADDED = re.compile(r"^InsertedPrecisionFreeCast_|(_nchwc|_token_\d+|/duplicated)+$")

_Events = Mapping[tuple[str, str], list[dict[str, Any]]]


def layers_of(optimized: Path, profile: Path, provider: str) -> tuple[LayerReport, ...]:
    """Every kernel of the optimised graph, branches that the run did not take among them; each once, in graph order.

    Args:
        optimized: the graph that the session runs, as the session wrote it.
        profile: the same session's profile of at least one run.
        provider: the session's own; a kernel that runs on another one says so.

    Raises:
        AttestationFailed: a kernel that computes has an element type that is unknown, or that nothing tells; or the
            profile names a kernel that is not in the graph.
    """
    graph = onnx.load(optimized)
    nodes = list(_nodes(graph.graph))
    kernels = {(node.name, node.op_type) for node in nodes}
    events: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in json.loads(profile.read_text(encoding="utf-8")):
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            name, operator = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            if (name, operator) not in kernels and re.fullmatch(rf"{operator}_\d+", name):
                # A node without a name. Several of one operator are not told apart: each counts as the coarsest.
                name = ""
            events.setdefault((name, operator), []).append(event["args"])
    strange = sorted(events.keys() - kernels)
    if strange:
        raise AttestationFailed(
            expected="a profile of kernels that are in the optimised graph",
            found=f"kernel {strange[0][0]!r} ({strange[0][1]})",
            remedy="use the ONNX Runtime version in the constraints file",
        )
    inferred = _inferred(graph, events) if any((node.name, node.op_type) not in events for node in nodes) else {}
    return tuple(_report(place, node, events, inferred, provider) for place, node in enumerate(nodes))


def _nodes(graph: GraphProto) -> Iterator[NodeProto]:
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from _nodes(inner)
        yield node


def _report(place: int, node: NodeProto, events_of: _Events, inferred: Mapping[str, str], provider: str) -> LayerReport:
    events = events_of.get((node.name, node.op_type))
    if events is not None:
        types = {
            kind
            for event in events
            for side in ("input", "output")
            for tensor in event[f"{side}_type_shape"]
            for kind in tensor
        }
        elsewhere = {event["provider"] for event in events} - {provider}
        how = f"seen in a run{''.join(f', on {name}' for name in sorted(elsewhere))}"
    else:
        types = {inferred.get(name, "") for name in (*node.input, *node.output) if name}
        how = "inferred: the run did not come here"
    domain = f"{node.domain}." if node.domain else ""
    # Tokens number what the optimisers add in an order that is another in every session.
    name = _TOKEN.sub("", node.name)
    name = f"{node.op_type} {place}" if name in ("", node.op_type) else name
    return LayerReport(
        name=name,
        kind=f"{domain}{node.op_type}",
        precision=_precision(name, node.op_type, types),
        told=f"{', '.join(sorted(types - {''})) or 'no tensors'} ({how})",
        # What the kernel is named after, and what it makes: ONNX Runtime does not tell more of where it comes from.
        nodes=tuple(_ADDED.sub("", _ADDED.sub("", each)) for each in (name, *node.output)),
    )


def _precision(name: str, operator: str, types: set[str]) -> Execution | None:
    if operator in _NO_COMPUTE or types <= _INDICES:
        return None
    executions = [execution for names, execution in _EXECUTIONS if types & names]
    if not executions or types - _INDICES - frozenset().union(*(names for names, _ in _EXECUTIONS)):
        raise AttestationFailed(
            expected=f"kernel {operator} {name!r} on known element types",
            found=", ".join(sorted(types - {""})) or "no type that the run or the graph tells",
            remedy="use the ONNX Runtime version in the constraints file, or report the operator",
        )
    return executions[0]


def _inferred(model: ModelProto, events: _Events) -> dict[str, str]:
    """Element types for what the run did not reach, by ONNX's inference from what it saw.

    Names of different branches may be the same; inference then has to agree, or the name gets no type.
    """
    typed = ModelProto()
    typed.CopyFrom(model)
    for node in model.graph.node:
        for event in events.get((node.name, node.op_type), ())[:1]:
            kinds = [kind for tensor in event["output_type_shape"] for kind in tensor]
            outputs = [name for name in node.output if name]
            if len(kinds) == len(outputs):
                typed.graph.value_info.extend(
                    onnx.helper.make_tensor_value_info(name, _element_type(kind), None)
                    for name, kind in zip(outputs, kinds, strict=True)
                )
    types: dict[str, set[int]] = {}
    _collect(infer_shapes(typed).graph, types)
    return {name: _runtime_name(next(iter(kinds))) for name, kinds in types.items() if len(kinds) == 1 and kinds != {0}}


def _collect(graph: GraphProto, types: dict[str, set[int]]) -> None:
    values: list[ValueInfoProto] = [*graph.input, *graph.output, *graph.value_info]
    for value in values:
        if value.type.HasField("tensor_type"):
            types.setdefault(value.name, set()).add(value.type.tensor_type.elem_type)
    for tensor in graph.initializer:
        types.setdefault(tensor.name, set()).add(tensor.data_type)
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                _collect(inner, types)


def _runtime_name(kind: int) -> str:
    return str(TensorProto.DataType.Name(kind)).lower()


def _element_type(name: str) -> int:
    return int(TensorProto.DataType.Value(name.upper()))

"""What OpenVINO's runtime model says of each layer of a compiled model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import openvino

from regiolect.contracts import Execution, LayerReport
from regiolect.engines.listed import elsewhere
from regiolect.errors import AttestationFailed
from regiolect.precision import WIDEST_FIRST

_EXECUTIONS = {
    "f32": Execution.FP32,
    "f16": Execution.FP16,
    "bf16": Execution.BF16,
    "i8": Execution.INT8,
    "u8": Execution.INT8,
    # How names of primitives end.
    "I8": Execution.INT8,
}
_HALVES = (Execution.FP16, Execution.BF16)
# Arithmetic on shapes and indices, never on activations.
_INDICES = frozenset({"i16", "u16", "i32", "u32", "i64", "u64", "boolean"})
# The engine's borders and its constants: they run nothing.
_NOT_RUN = frozenset({"Const", "Input", "Output"})
# Layers that move or convert values. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset(
    {
        "Broadcast",
        "Concatenation",
        "Convert",
        "FakeQuantize",
        "Gather",
        "Pad",
        "Reorder",
        "Reshape",
        "ShapeOf",
        "Split",
        "StridedSlice",
        "Tile",
        "Transpose",
    }
)
# Layers whose inner layers the runtime model leaves out.
_HIDING = frozenset({"If", "Loop", "TensorIterator"})
_DETAIL = ("layerType", "runtimePrecision", "primitiveType", "outputPrecisions", "originalLayersNames", "execOrder")


def layers_of(compiled: openvino.CompiledModel, operators: Mapping[str, str]) -> tuple[LayerReport, ...]:
    """Every layer that runs, in order of execution; constants, inputs and outputs are left out.

    A layer counts as coarse as the coarsest of its runtime precision and its primitive, and as BF16 if either says so;
    one that only moves values counts only where it rounds them to a half type.

    Args:
        compiled: the engine.
        operators: type of each operator of the engine file, by its name.

    Raises:
        AttestationFailed: a layer without detail, of an unknown type, or with inner layers that are not listed.
    """
    return tuple(
        _report(layer, info, operators)
        for layer in compiled.get_runtime_model().get_ordered_ops()
        if (info := _told(layer))["layerType"] not in _NOT_RUN
    )


def _told(layer: openvino.Node) -> dict[str, str]:
    info = layer.get_rt_info()
    missing = [name for name in _DETAIL if name not in info]
    if missing:
        raise AttestationFailed(
            expected=f"{', '.join(_DETAIL)} of layer {layer.get_friendly_name()!r}",
            found=f"a runtime model without {', '.join(missing)}",
            remedy="use the OpenVINO version in the constraints file",
        )
    return {name: info[name].astype(str) for name in _DETAIL}


def _report(layer: openvino.Node, info: Mapping[str, str], operators: Mapping[str, str]) -> LayerReport:
    kind, runtime, written = info["layerType"], info["runtimePrecision"], info["outputPrecisions"]
    origins = [name for name in info["originalLayersNames"].split(",") if name]
    named = [name for name in origins if name in operators]
    return LayerReport(
        # Names that OpenVINO makes up end in a counter of the whole process: the place in the order is used instead.
        name=named[0] if named else f"{kind} {info['execOrder']}",
        kind=kind,
        precision=_precision(layer, info, operators[named[0]] if named else ""),
        told=f"{runtime}, {info['primitiveType']}" + ("" if written == runtime else f", writes {written}"),
        nodes=tuple(origins),
    )


def _precision(layer: openvino.Node, info: Mapping[str, str], operator: str) -> Execution | None:
    kind, runtime = info["layerType"], info["runtimePrecision"]
    if kind in _HIDING:
        raise AttestationFailed(
            expected="layers that OpenVINO lists one by one",
            found=f"layer {layer.get_friendly_name()!r} ({kind}), whose inner layers it does not list",
            remedy=f"{elsewhere('openvino')}, or export the model without control flow",
        )
    written = info["outputPrecisions"].split(",")
    if kind in _NO_COMPUTE:
        return _coarsest(execution for execution in _known(runtime, *written) if execution in _HALVES)
    if operator.startswith("Logical"):
        return None
    if operator == "Select":
        # The condition is held in eight bits, which says nothing of the values that it chooses from.
        chosen = [port.get_element_type().to_string() for port in layer.inputs()[1:]]
        return _coarsest(_known(*chosen, *written))
    if runtime in _INDICES:
        return None
    if runtime not in _EXECUTIONS:
        raise AttestationFailed(
            expected=f"layer {layer.get_friendly_name()!r} ({kind}) in one of {', '.join(_EXECUTIONS)}",
            found=f"runtime precision {runtime!r}",
            remedy="use the OpenVINO version in the constraints file, or report the layer",
        )
    return _coarsest(_known(runtime, info["primitiveType"].rpartition("_")[2]))


def _known(*names: str) -> list[Execution]:
    return [_EXECUTIONS[name] for name in names if name in _EXECUTIONS]


def _coarsest(executions: Iterable[Execution]) -> Execution | None:
    """BF16 if it is said at all: no policy that takes what is coarser still must miss it. None if nothing is said."""
    distinct = set(executions)
    return Execution.BF16 if Execution.BF16 in distinct else max(distinct, key=WIDEST_FIRST.index, default=None)

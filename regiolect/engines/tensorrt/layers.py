"""What TensorRT's engine inspector says of each layer of a plan that was built with full detail."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from regiolect.contracts import Execution, LayerReport
from regiolect.errors import AttestationFailed
from regiolect.precision import WIDEST_FIRST

# Words for element types in `Format/Datatype`, which 11.x also writes as `Datatype`; between two words of others.
_TYPES: tuple[tuple[str, Execution | None], ...] = (
    (r"BF16|BFLOAT16", Execution.BF16),
    (r"FP32|FLOAT32|FLOAT", Execution.FP32),
    (r"FP16|FLOAT16|HALF", Execution.FP16),
    (r"U?INT8", Execution.INT8),
    (r"BOOL|INT32|INT64", None),
)
# Parts of kernels' names, which say in what their products are computed: sm80_xmma_gemm_tf32f32_tf32f32_f32_...
_KERNELS = (
    (r"tf32", Execution.TF32),
    (r"bf16", Execution.BF16),
    (r"(?<![bt])f16|fp16|h(?:884|1688|16816)|hmma|hgmma", Execution.FP16),
    (r"i8|int8|imma", Execution.INT8),
)
# Layers that move, reshape or convert values, or only order the others. Whatever is not listed counts as compute.
_NO_COMPUTE = frozenset(
    {
        "cast",
        "concatenation",
        "constant",
        "dequantize",
        "gather",
        "move",
        "noop",
        "padding",
        "quantize",
        "reformat",
        "shape",
        "shape_call",
        "shapedevicetohost",
        "shapehosttodevice",
        "shuffle",
        "signal",
        "slice",
        "squeeze",
        "unsqueeze",
        "wait",
    }
)
_HALVES = (Execution.FP16, Execution.BF16)
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]\x1e\x1f]+)\]")


def layers_of(information: str, tensors: Iterable[str]) -> tuple[LayerReport, ...]:
    """Every layer of an engine, in the inspector's order.

    A layer counts as coarse as the coarsest of its inputs, its outputs and the types in its kernel's name; one that
    only moves or converts values counts only where it rounds them to a half type.

    Args:
        information: the inspector's JSON of the whole engine.
        tensors: the engine's inputs and outputs, which that JSON must name: as `Bindings` (10.x) or `I/O Tensors` (11).

    Raises:
        AttestationFailed: it is no such JSON, is of other tensors, or a layer is without detail or of an unknown type.
    """
    try:
        engine = json.loads(information)
    except ValueError as error:
        raise _unreadable("what is no JSON") from error
    if not isinstance(engine, Mapping) or not isinstance(engine.get("Layers"), list):
        raise _unreadable("JSON without a list of layers")
    named, wanted = sorted(_bound(engine)), sorted(tensors)
    if named != wanted:
        raise _unreadable(f"an engine of the tensors {', '.join(named) or 'none'} instead of {', '.join(wanted)}")
    return tuple(_report(place, layer) for place, layer in enumerate(engine["Layers"]))


def _bound(engine: Mapping[str, Any]) -> Iterator[str]:
    for listed in (engine.get("Bindings"), engine.get("I/O Tensors")):
        for tensor in listed if isinstance(listed, list) else ():
            yield str(tensor.get("Name") if isinstance(tensor, Mapping) else tensor)


def _report(place: int, layer: Any) -> LayerReport:
    if not isinstance(layer, Mapping):
        raise _unreadable(f"layer {place} ({layer!r}) by its name alone")
    missing = [key for key in ("Name", "LayerType", "Inputs", "Outputs") if key not in layer]
    if missing:
        raise _unreadable(f"layer {place} without {', '.join(missing)}")
    name, kind, kernel = str(layer["Name"]), str(layer["LayerType"]), str(layer.get("TacticName", ""))
    # A format may repeat the datatype beside it: what both say is read.
    reads, writes = ([_formats(tensor) for tensor in layer[side]] for side in ("Inputs", "Outputs"))
    formats = f"{', '.join(dict.fromkeys(reads)) or 'nothing'} -> {', '.join(dict.fromkeys(writes)) or 'nothing'}"
    return LayerReport(
        name=name,
        kind=kind,
        precision=_precision(name, kind, kernel, reads, writes),
        told=f"{formats}, {kernel}" if kernel else formats,
        nodes=tuple(dict.fromkeys(_ORIGIN.findall(str(layer.get("Metadata", ""))))),
    )


def _formats(tensor: Any) -> str:
    if not isinstance(tensor, Mapping):
        return ""
    return ", ".join(str(value) for key, value in tensor.items() if re.match(r"format|datatype", key, re.IGNORECASE))


def _precision(name: str, kind: str, kernel: str, reads: list[str], writes: list[str]) -> Execution | None:
    if kind.lower() in _NO_COMPUTE:
        executions = [one for each in [*reads, *writes] for one in _known(each) if one in _HALVES]
        return max(executions, key=WIDEST_FIRST.index, default=None)
    types = [one for each in [*reads, *writes] for one in _typed(name, kind, each)]
    floats = [one for one in types if one is not None]
    if types and not floats:
        # Arithmetic on shapes and indices.
        return None
    by_kernel = [execution for pattern, execution in _KERNELS if re.search(pattern, kernel.lower())]
    if not floats and not by_kernel:
        raise _unreadable(f"layer {name!r} ({kind}) with no type of its own")
    executions = [*floats, *by_kernel]
    # BF16 if it is said at all: no policy that takes what is coarser still must miss it.
    return Execution.BF16 if Execution.BF16 in executions else max(executions, key=WIDEST_FIRST.index)


def _typed(name: str, kind: str, tensor: str) -> list[Execution | None]:
    executions = _known(tensor)
    if not executions:
        raise _unreadable(f"layer {name!r} ({kind}) on {tensor or 'a tensor without a type'}")
    return executions


def _known(tensor: str) -> list[Execution | None]:
    """The types that a tensor's format names: letters and digits around a word make it another word."""
    return [
        execution
        for words, execution in _TYPES
        if re.search(rf"(?<![A-Z0-9])(?:K?)(?:{words})(?![A-Z0-9])", tensor.upper())
    ]


def _unreadable(found: str) -> AttestationFailed:
    return AttestationFailed(
        expected="TensorRT's inspector to tell type and kernel of every layer",
        found=found,
        remedy="build the engine again with --force and this version; if it stays, report what the inspector says",
    )

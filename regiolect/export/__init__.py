"""From a ModelSpec to a cleaned ONNX graph with a dynamic batch, proved equal to its source on real samples."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.contracts import ExportedModel, ParityReport
from regiolect.errors import InvalidModelSpec, ParityFailed
from regiolect.integrity import digest_of

if TYPE_CHECKING:
    from regiolect.data import Samples
    from regiolect.model import ModelSpec
    from regiolect.storage import Store


def export_model(spec: ModelSpec, store: Store, parity_samples: Samples | None) -> ExportedModel:
    """Export, clean up, compare with the source, and keep the graph in the store.

    A torch module goes through `torch.onnx.export`; an .onnx file is taken as it is, so pruned weights and Q/DQ nodes
    survive. Equal sources give equal bytes: the graph carries no paths, stack traces or documentation.

    A model that arrives quantized cannot be its own reference: what it lost on the way would be missing on both sides
    and never be seen. Its FP32 original, the spec's `reference`, goes through the same steps and takes that place.

    Args:
        spec: the model.
        store: where the graph is kept. Nothing is written unless every check passed.
        parity_samples: real raw samples; the first 64 are used. A torch module cannot do without. An ONNX file can:
            its cleaned graph is then compared with the file on seeded noise, and the result has no parity report.

    Returns:
        The exported model. Its first dimension is dynamic and named as in the spec; its opset is at least 20.

    Raises:
        InvalidModelSpec: names, dtypes or shapes of the spec do not fit the model; the model is quantized and the spec
            names no `reference`, or one that is quantized too; or the model is not quantized and the spec names one.
        ExportFailed: the module does not load, is in training mode, or cannot be turned into ONNX.
        InvalidOnnx: a file is truncated, inconsistent, in FP16 or BF16, or its batch is fixed for good.
        UnsupportedOperator: the graph holds control flow or operators outside the ONNX standard.
        InvalidSamples: the samples do not fit the spec's inputs.
        ParityFailed: the graph and its source disagree on a sample, or nothing was given to compare them on.
    """
    model = _cleaned(spec, parity_samples)
    original = _fp32_original(spec, model, parity_samples)
    graph = store.put_bytes(model.data)
    return ExportedModel(
        name=spec.name,
        source=spec.source_digest(),
        graph=graph,
        reference=graph if original is None else store.put_bytes(original.data),
        inputs=spec.inputs,
        outputs=spec.outputs,
        preprocessing=spec.preprocessing,
        preprocessing_digest=digest_of(spec.preprocessing),
        opset=model.opset,
        nodes_before=model.nodes_before,
        nodes_after=model.nodes_after,
        bytes_before=model.bytes_before,
        bytes_after=len(model.data),
        parity=None if parity_samples is None else model.parity,
    )


@dataclass(frozen=True)
class _Cleaned:
    """A graph that passed every check, and what it was before. `quantized`: nodes that make it none of FP32."""

    data: bytes
    opset: int
    quantized: int
    nodes_before: int
    nodes_after: int
    bytes_before: int
    parity: ParityReport


def _cleaned(spec: ModelSpec, parity_samples: Samples | None) -> _Cleaned:
    from regiolect.export import cleanup, onnx_file, parity

    batch = parity.noise(spec) if parity_samples is None else parity.prepare(spec, parity_samples)
    if isinstance(spec.loader, Path):
        source = onnx_file.read(spec, batch)
        run = source.run
        original, bytes_before = source.model, source.size
    else:
        if parity_samples is None:
            raise ParityFailed(
                expected=f"real samples to compare {spec.name!r} with its ONNX graph",
                found="none",
                remedy="give at least one region's calibration set as parity samples",
            )
        from regiolect.export import torch_export

        module = torch_export.load_module(spec)
        original = torch_export.to_onnx(spec, module, batch)
        run = torch_export.runner(spec, module)
        bytes_before = original.ByteSize()
    graph = cleanup.clean(spec, original)
    data = graph.SerializeToString(deterministic=True)
    return _Cleaned(
        data=data,
        opset=cleanup.opset_of(graph),
        quantized=cleanup.count_quantized(graph),
        nodes_before=cleanup.count_nodes(original),
        nodes_after=cleanup.count_nodes(graph),
        bytes_before=bytes_before,
        parity=parity.compare(spec, run, parity.ort_runner(spec, data), batch),
    )


def _fp32_original(spec: ModelSpec, model: _Cleaned, parity_samples: Samples | None) -> _Cleaned | None:
    """The graph that a quantized model is compared with; None for a model that is in FP32 itself."""
    if not model.quantized:
        if spec.reference is not None:
            raise InvalidModelSpec(
                expected=f"no `reference` in the spec of {spec.name!r}, whose model is not quantized",
                found=f"{spec.reference}, which nothing would be compared with",
                remedy="leave `reference` out: a model that arrives in FP32 is its own reference",
            )
        return None
    if spec.reference is None:
        raise InvalidModelSpec(
            expected=f"the FP32 original of {spec.name!r}, for a quantized model cannot be its own reference",
            found=f"{_nodes(model.quantized)} in the model, and no `reference` in its spec",
            remedy="name the original beside it, reference=HERE / 'model_fp32.onnx'; or make the original the loader "
            "and let each region's policy quantize it",
        )
    original = _cleaned(replace(spec, loader=spec.reference, reference=None), parity_samples)
    if original.quantized:
        raise InvalidModelSpec(
            expected=f"an FP32 model in {spec.reference}, the `reference` of {spec.name!r}",
            found=f"{_nodes(original.quantized)} in it",
            remedy="name the model as it was before it was quantized",
        )
    return original


def _nodes(quantized: int) -> str:
    return "1 quantized node" if quantized == 1 else f"{quantized} quantized nodes"


__all__ = ["export_model"]

"""From a ModelSpec to a cleaned FP32 ONNX graph with a dynamic batch, proved equal to its source on real samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regiolect.contracts import ExportedModel
from regiolect.errors import ParityFailed
from regiolect.integrity import digest_of

if TYPE_CHECKING:
    from regiolect.data import Samples
    from regiolect.model import ModelSpec
    from regiolect.storage import Store


def export_model(spec: ModelSpec, store: Store, parity_samples: Samples | None) -> ExportedModel:
    """Export, clean up, compare with the source, and keep the graph in the store.

    A torch module goes through `torch.onnx.export`; an .onnx file is taken as it is, so pruned weights and Q/DQ nodes
    survive. Equal sources give equal bytes: the graph carries no paths, stack traces or documentation.

    Args:
        spec: the model.
        store: where the graph is kept. Nothing is written unless every check passed.
        parity_samples: real raw samples; the first 64 are used. A torch module cannot do without. An ONNX file can:
            its cleaned graph is then compared with the file on seeded noise, and the result has no parity report.

    Returns:
        The exported model. Its first dimension is dynamic and named as in the spec; its opset is at least 20.

    Raises:
        InvalidModelSpec: names, dtypes or shapes of the spec do not fit the model.
        ExportFailed: the module does not load, is in training mode, or cannot be turned into ONNX.
        InvalidOnnx: the file is truncated, inconsistent, not FP32, or its batch is fixed for good.
        UnsupportedOperator: the graph holds control flow or operators outside the ONNX standard.
        InvalidSamples: the samples do not fit the spec's inputs.
        ParityFailed: the graph and its source disagree on a sample, or nothing was given to compare them on.
    """
    from pathlib import Path

    from regiolect.export import cleanup, onnx_file, parity

    batch = parity.noise(spec) if parity_samples is None else parity.prepare(spec, parity_samples)
    if isinstance(spec.loader, Path):
        source = onnx_file.read(spec, batch)
        reference = source.run
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
        reference = torch_export.runner(spec, module)
        bytes_before = original.ByteSize()
    nodes_before = cleanup.count_nodes(original)
    graph = cleanup.clean(spec, original)
    data = graph.SerializeToString(deterministic=True)
    report = parity.compare(spec, reference, parity.ort_runner(spec, data), batch)
    return ExportedModel(
        name=spec.name,
        source=spec.source_digest(),
        graph=store.put_bytes(data),
        inputs=spec.inputs,
        outputs=spec.outputs,
        preprocessing=spec.preprocessing,
        preprocessing_digest=digest_of(spec.preprocessing),
        opset=cleanup.opset_of(graph),
        nodes_before=nodes_before,
        nodes_after=cleanup.count_nodes(graph),
        bytes_before=bytes_before,
        bytes_after=len(data),
        parity=None if parity_samples is None else report,
    )


__all__ = ["export_model"]

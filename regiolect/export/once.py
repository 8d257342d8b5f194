"""Export a model once per version of its files."""

from __future__ import annotations

import importlib.metadata

from regiolect.contracts import ExportedModel, Split
from regiolect.errors import UnknownRegion
from regiolect.export import export_model
from regiolect.model import ModelSpec
from regiolect.remember import remember
from regiolect.storage import Store

_EXPORTERS = ("onnx", "onnx_ir", "onnxruntime", "onnxscript", "torch")


def export_once(spec: ModelSpec, store: Store) -> ExportedModel:
    """The exported model, from an earlier run if neither the model nor the exporters changed.

    Parity is checked on the calibration set of the model's first region, in alphabetical order.

    Raises:
        UnknownRegion: the model has no data at all.
        ModelError: as `export_model`.
    """
    if not spec.data:
        raise UnknownRegion(
            expected=f"data of at least one region in ModelSpec {spec.name!r}",
            found="none",
            remedy="add a RegionSource to `data`",
        )
    source = spec.data[min(spec.data)]
    versions = {name: importlib.metadata.version(name) for name in _EXPORTERS}
    inputs = {"model": spec.source_digest(), "samples": source.identity(), **versions}
    return remember(
        store, "exports", inputs, ExportedModel, lambda: export_model(spec, store, source.load(Split.CALIBRATION))
    )

"""Build an engine: the typed graph, checked, with its origin in `metadata_props`."""

from __future__ import annotations

from pathlib import Path

import onnx

from regiolect.contracts import BuildRequest
from regiolect.engines.origin import metadata_of, require_interface


def build(graph: Path, request: BuildRequest, folder: Path) -> None:
    """Write engine.onnx into `folder`.

    Raises:
        BuildFailed: the graph's inputs or outputs are not the request's.
        One of `runtime.ERRORS`: the file is no valid graph, or holds an operator that ONNX does not have.
    """
    model = onnx.load(graph)
    onnx.checker.check_model(model, full_check=True)
    require_interface(
        request, [value.name for value in model.graph.input], [value.name for value in model.graph.output]
    )
    onnx.helper.set_model_props(model, metadata_of(request))
    (folder / "engine.onnx").write_bytes(model.SerializeToString(deterministic=True))

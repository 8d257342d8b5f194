"""Build an ONNX Runtime engine: the typed graph with its origin in `metadata_props`."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError

from regiolect.contracts import BuildRequest
from regiolect.engines.engine import excerpt
from regiolect.engines.onnxruntime.runtime import METADATA_PREFIX
from regiolect.engines.onnxruntime.session import open_session
from regiolect.engines.origin import metadata_of, require_interface
from regiolect.errors import BuildFailed
from regiolect.graphs.exact import openable, summed_exactly
from regiolect.graphs.unshared import unshared
from regiolect.host.arithmetic import sums_in_int32


def build(graph: Path, request: BuildRequest, folder: Path, *, classed: bool = True) -> None:
    """Write engine.onnx into `folder`, after ONNX Runtime opened it once, on the processor.

    Args:
        graph: the typed graph.
        request: what is built.
        folder: where the engine goes.
        classed: whether the processor sums its products, as the backend says of itself.

    Raises:
        BuildFailed: the file is no ONNX graph, or its inputs or outputs are not the request's.
        UnsupportedOperator, InvalidOnnx: as of `regiolect.graphs.exact.summed_exactly`.
        One of `session.ERRORS`: ONNX Runtime has no kernel for an operator, or finds the graph invalid.
    """
    try:
        model = onnx.load(graph)
    except DecodeError as error:
        raise BuildFailed(
            expected=f"an ONNX graph of {request.model!r}",
            found=excerpt(error),
            remedy="export the model again; the file is truncated or is no ONNX file",
        ) from error
    if sums_in_int32(request.arithmetic):
        model = openable(model)
    else:
        model = summed_exactly(model) if classed else unshared(openable(model))
    kept = {entry.key: entry.value for entry in model.metadata_props}
    own = {f"{METADATA_PREFIX}{key}": value for key, value in metadata_of(request).items()}
    onnx.helper.set_model_props(model, {**kept, **own})
    data = model.SerializeToString(deterministic=True)
    session = open_session(data)
    require_interface(
        request, [tensor.name for tensor in session.get_inputs()], [tensor.name for tensor in session.get_outputs()]
    )
    (folder / "engine.onnx").write_bytes(data)

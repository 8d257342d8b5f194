"""The FP32 reference: what the model answers when nothing is taken from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import ExportedModel
from regiolect.errors import ReferenceFailed
from regiolect.export.parity import last_line
from regiolect.storage import Store


def reference_outputs(
    model: ExportedModel, inputs: Mapping[str, NDArray[Any]], store: Store, batch: int = 64
) -> dict[str, NDArray[Any]]:
    """Outputs of the model's FP32 graph through `regiolect.engines.reference`, by output name.

    A model that came as a torch module was compared with this graph, through this library, when it was exported. An
    engine of another library shares nothing with the reference. An engine of the same one shares the library, but not
    the typed graph: a fault of ONNX Runtime's own can hide in both.

    Args:
        model: the exported model.
        inputs: preprocessed arrays that share their first dimension.
        batch: samples at a time; has no influence on the answer.

    Raises:
        ReferenceFailed: ONNX Runtime cannot load or run the graph, or an output has another number of rows.
        StorageError, IntegrityError: the graph is not in the store, or was changed there.
    """
    from regiolect.engines.reference import FAILURES, LIBRARY, open_graph, session_options

    path = store.path_of(model.reference)
    count = len(next(iter(inputs.values())))
    try:
        session = open_graph(path, session_options())
        parts = [
            session.run(list(model.outputs), {name: array[start : start + batch] for name, array in inputs.items()})
            for start in range(0, count, batch)
        ]
    except FAILURES as error:
        shapes = ", ".join(f"{name} {array.dtype} {array.shape}" for name, array in inputs.items())
        raise ReferenceFailed(
            expected=f"the FP32 graph of {model.name!r} to run on {shapes} in {LIBRARY}",
            found=last_line(error),
            remedy="free memory if it ran out; otherwise make the gate set's inputs fit the ModelSpec, or export anew: "
            "regiolect run MODEL --force",
        ) from error
    outputs = {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(model.outputs)}
    for name, output in outputs.items():
        if len(output) != count:
            raise ReferenceFailed(
                expected=f"output {name!r} of {model.name!r} with one row per sample ({count})",
                found=f"shape {output.shape}",
                remedy="export the model with the batch as first dimension of every output",
            )
    return outputs

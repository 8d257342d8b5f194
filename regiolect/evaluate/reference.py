"""The FP32 reference: what the model answers when nothing is taken from it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import ExportedModel
from regiolect.storage import Store


def reference_outputs(
    model: ExportedModel, inputs: Mapping[str, NDArray[Any]], store: Store, batch: int = 64
) -> dict[str, NDArray[Any]]:
    """Outputs of the exported FP32 graph through ONNX Runtime's CPU provider, by output name.

    The reference never goes through the backend under test, so that a fault of the backend cannot hide in both.

    Args:
        model: the exported model.
        inputs: preprocessed arrays that share their first dimension.
        batch: samples at a time; has no influence on the answer.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(store.path_of(model.graph)), options, providers=["CPUExecutionProvider"])
    count = len(next(iter(inputs.values())))
    parts = [
        session.run(list(model.outputs), {name: array[start : start + batch] for name, array in inputs.items()})
        for start in range(0, count, batch)
    ]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(model.outputs)}

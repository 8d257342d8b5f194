"""Metric functions: (outputs by name, targets) -> one score per sample."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def top1(outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the largest logit of the first output (n, classes) is the label (n,); a row with NaN is wrong."""
    logits = next(iter(outputs.values()))
    # argmax takes NaN for the largest value.
    return np.asarray((logits.argmax(axis=1) == targets) & ~np.isnan(logits).any(axis=1))

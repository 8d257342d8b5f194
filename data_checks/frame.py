"""Samples as a table for expectations: one row per sample, one column per statistic."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from regiolect.contracts import Split
from regiolect.data import Samples

_ROWS = 256  # rows per pass: bounds the memory that float64 copies of raw inputs take


def has_images(samples: Samples) -> bool:
    """Whether an input has at least two axes per sample."""
    return any(array.ndim >= 3 for array in samples.inputs.values())


def sample_frame(samples: Samples) -> pd.DataFrame:
    """One row per sample, in order.

    Columns:
        id, region: as the sample carries them.
        content: sha256 of all inputs' names, types and bytes.
        mean: mean over all raw values of all inputs, in their own unit; NaN if any value is NaN or infinite.
        set_std: standard deviation over all raw values of the whole set, the same in each row; NaN as above.
        at_low, at_high: fraction of an image's values that equal its own lowest (highest) value, the worst of the
            sample's images; 1 for a constant image. Only where `has_images`. The image's own extremes are taken, not
            its type's, so that 12 bits kept in 16, and floats, are judged alike.
        label: only for integer targets of shape (n,).
    """
    means, variances = _moments(samples.inputs)
    centre = means.mean()
    columns: dict[str, Any] = {
        "id": samples.ids,
        "region": samples.regions,
        "content": _contents(samples.inputs),
        "mean": means,
        "set_std": np.sqrt((variances + (means - centre) ** 2).mean()),
    }
    if has_images(samples):
        columns["at_low"], columns["at_high"] = _extremes(samples.inputs)
    if samples.targets.ndim == 1 and samples.targets.dtype.kind in "ui":
        columns["label"] = samples.targets
    return pd.DataFrame(columns)


def region_frame(frames: Mapping[Split, pd.DataFrame]) -> pd.DataFrame:
    """The sets of a region, one row per sample.

    Columns: id, prefixed with its set; id_also_in and image_also_in: another set, and the sample there, that has the
    same id (content), or null.
    """
    parts = []
    for split, frame in frames.items():
        part = pd.DataFrame({"id": split.value + " " + frame["id"].astype(object)})
        for key, column in (("id", "id_also_in"), ("content", "image_also_in")):
            elsewhere = {
                value: f"{other.value} {sample}"
                for other, rows in frames.items()
                if other is not split
                for value, sample in zip(rows[key], rows["id"], strict=True)
            }
            part[column] = pd.Series([elsewhere.get(value) for value in frame[key]], dtype=object)
        parts.append(part)
    return pd.concat(parts, ignore_index=True)


def _contents(inputs: Mapping[str, NDArray[Any]]) -> list[str]:
    arrays = [(f"{name}:{inputs[name].dtype.str}:".encode(), inputs[name]) for name in sorted(inputs)]
    return [
        hashlib.sha256(b"".join(label + array[row].tobytes() for label, array in arrays)).hexdigest()
        for row in range(len(arrays[0][1]))
    ]


def _moments(inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Each sample's mean and variance over the values of all its inputs, shapes (n,); NaN where not finite."""
    count = len(next(iter(inputs.values())))
    means, variances = np.empty(count), np.empty(count)
    for start in range(0, count, _ROWS):
        rows = slice(start, start + _ROWS)
        values = np.concatenate(
            [array[rows].reshape(len(array[rows]), -1).astype(np.float64) for array in inputs.values()], axis=1
        )
        values[~np.isfinite(values).all(axis=1)] = np.nan
        means[rows], variances[rows] = values.mean(axis=1), values.var(axis=1)
    return means, variances


def _extremes(inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fractions of values at the lowest and at the highest of each image, the worst over a sample's images."""
    count = len(next(iter(inputs.values())))
    low, high = np.zeros(count), np.zeros(count)
    for array in inputs.values():
        if array.ndim < 3:
            continue
        for start in range(0, count, _ROWS):
            rows = slice(start, start + _ROWS)
            values = array[rows].reshape(len(array[rows]), -1)
            low[rows] = np.maximum(low[rows], (values == values.min(axis=1, keepdims=True)).mean(axis=1))
            high[rows] = np.maximum(high[rows], (values == values.max(axis=1, keepdims=True)).mean(axis=1))
    return low, high

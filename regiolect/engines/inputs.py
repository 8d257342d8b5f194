"""What may go into an engine, and how it is cut and padded to the sizes that the engine takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import BatchProfile, TensorSpec
from regiolect.errors import InvalidSamples

Arrays = Mapping[str, NDArray[Any]]


def checked_rows(specs: Sequence[TensorSpec], inputs: Arrays) -> int:
    """The number of samples in `inputs`, once they are found to be what `specs` ask for.

    A symbolic dimension may have any size, the same wherever its name occurs.

    Raises:
        InvalidSamples: names, a dtype, a dimension or the lengths are wrong, or a value is NaN or infinite.
    """
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(inputs):
        raise InvalidSamples(
            expected=f"inputs {', '.join(names)}",
            found=", ".join(sorted(inputs)) or "none",
            remedy="give one array per input, under the names of the ModelSpec",
        )
    sizes: dict[str, int] = {}
    batch = specs[0].shape[0]
    for spec in specs:
        shape = (batch, *spec.shape[1:])
        array = inputs[spec.name]
        if array.dtype != np.dtype(spec.dtype):
            raise InvalidSamples(
                expected=f"input {spec.name!r} as {spec.dtype}",
                found=str(array.dtype),
                remedy="preprocess raw samples with regiolect.data.model_inputs, or convert with astype",
            )
        if array.ndim != len(shape) or any(
            (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted) != size
            for wanted, size in zip(shape, array.shape, strict=True)
        ):
            known = tuple(sizes.get(wanted, wanted) if isinstance(wanted, str) else wanted for wanted in shape)
            raise InvalidSamples(
                expected=f"input {spec.name!r} of shape {shape}" + (f", here {known}" if sizes else ""),
                found=f"shape {array.shape}",
                remedy="resize or crop the samples to the model's input before running it",
            )
        _refuse_non_finite(spec.name, array)
    return len(inputs[names[0]])


def _refuse_non_finite(name: str, array: NDArray[Any]) -> None:
    finite = np.isfinite(array)
    if not finite.all():
        rows = np.flatnonzero(~finite.reshape(len(array), -1).all(axis=1))
        raise InvalidSamples(
            expected=f"finite values in input {name!r}",
            found=f"NaN or infinity in row {rows[0]}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else ""),
            remedy="leave the sample out or repair it before preprocessing: an engine would answer with nonsense",
        )


def batches(inputs: Arrays, rows: int, step: int) -> list[dict[str, NDArray[Any]]]:
    """`inputs` cut along the first axis into pieces of `step` rows; the last may be shorter."""
    return [{name: array[start : start + step] for name, array in inputs.items()} for start in range(0, rows, step)]


def padded_size(rows: int, profile: BatchProfile) -> int:
    """The batch that an engine is fed for `rows` samples: the next bucket, and never under the profile's minimum."""
    least = max(rows, profile.min)
    return next((bucket for bucket in profile.buckets if bucket >= least), least)


def padded(inputs: Arrays, rows: int, profile: BatchProfile) -> dict[str, NDArray[Any]]:
    """Contiguous arrays of `padded_size(rows, profile)` rows: the samples, then zeros."""
    size = padded_size(rows, profile)
    if size == rows:
        return {name: np.ascontiguousarray(array) for name, array in inputs.items()}
    result = {}
    for name, array in inputs.items():
        result[name] = np.zeros((size, *array.shape[1:]), array.dtype)
        result[name][:rows] = array
    return result

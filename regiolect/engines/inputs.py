"""What may go into an engine, and how it is cut and padded to the sizes that the engine takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import BuildRequest, DimensionProfile, TensorSpec
from regiolect.data import require_unmasked
from regiolect.errors import BuildFailed, InvalidSamples, ShapeOutsideProfile

Arrays = Mapping[str, NDArray[Any]]


def require_profiles(request: BuildRequest) -> None:
    """Raises BuildFailed unless every symbolic dimension besides the batch has a profile in the request."""
    for tensor in request.inputs:
        missing = [name for name in tensor.shape[1:] if isinstance(name, str) and name not in request.shapes]
        if missing:
            raise BuildFailed(
                expected=f"a profile for {missing[0]!r} of input {tensor.name!r} of {request.model!r}: its size varies",
                found=f"profiles for {', '.join(sorted(request.shapes)) or 'none'}",
                remedy=f"state `shapes.{missing[0]}` in the policy of {request.region!r}: min, opt and max",
            )


def few_shapes(request: BuildRequest) -> bool:
    """Whether an engine meets shapes again and again, so that it pays to prepare something for each: nothing varies but
    the batch, or all that does has buckets."""
    return all(profile.buckets for profile in request.shapes.values())


def checked_rows(specs: Sequence[TensorSpec], inputs: Arrays) -> int:
    """The number of samples in `inputs`, once they are found to be what `specs` ask for.

    A symbolic dimension may have any size, the same wherever its name occurs.

    Raises:
        InvalidSamples: names, a dtype, a dimension or the lengths are wrong, or a value is NaN, infinite or masked.
    """
    rows = rows_in(specs, {name: array.shape for name, array in inputs.items()})
    for spec in specs:
        array = inputs[spec.name]
        require_unmasked(spec.name, array)
        if array.dtype != np.dtype(spec.dtype):
            raise InvalidSamples(
                expected=f"input {spec.name!r} as {spec.dtype}",
                found=str(array.dtype),
                remedy="preprocess raw samples with regiolect.data.model_inputs, or convert with astype",
            )
        _refuse_non_finite(spec.name, array)
    return rows


def rows_in(specs: Sequence[TensorSpec], given: Mapping[str, tuple[int, ...]]) -> int:
    """The number of samples in arrays of these shapes, by input name, once they are found to be what `specs` ask for.

    Raises:
        InvalidSamples: names, a dimension or the lengths are wrong.
    """
    names = [spec.name for spec in specs]
    if sorted(names) != sorted(given):
        raise InvalidSamples(
            expected=f"inputs {', '.join(names)}",
            found=", ".join(sorted(given)) or "none",
            remedy="give one array per input, under the names of the ModelSpec",
        )
    sizes: dict[str, int] = {}
    batch = specs[0].shape[0]
    for spec in specs:
        shape, given_shape = (batch, *spec.shape[1:]), given[spec.name]
        if len(given_shape) != len(shape) or any(
            (sizes.setdefault(wanted, size) if isinstance(wanted, str) else wanted) != size
            for wanted, size in zip(shape, given_shape, strict=True)
        ):
            known_sizes = tuple(sizes.get(wanted, wanted) if isinstance(wanted, str) else wanted for wanted in shape)
            raise InvalidSamples(
                expected=f"input {spec.name!r} of shape {shape}" + (f", here {known_sizes}" if sizes else ""),
                found=f"shape {given_shape}",
                remedy="resize or crop the samples to the model's input before running it",
            )
    return given[names[0]][0]


def _refuse_non_finite(name: str, array: NDArray[Any]) -> None:
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is finite only if all its terms are, and is had in less than half the time of a look at each.
        if np.isfinite(array.sum()):
            return
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


def padded_size(size: int, profile: DimensionProfile) -> int:
    """The size that an engine is fed for one of `size`: the next bucket, and never under the profile's minimum."""
    least = max(size, profile.min)
    return next((bucket for bucket in profile.buckets if bucket >= least), least)


def fed_shapes(
    specs: Sequence[TensorSpec], inputs: Arrays, profiles: Mapping[str, DimensionProfile]
) -> dict[str, tuple[int, ...]]:
    """The shape of one sample of each input as the engine is fed it: padded where a dimension's profile has buckets.

    Args:
        specs: the engine's inputs.
        inputs: arrays that `checked_rows` found good.
        profiles: by the names of the symbolic dimensions. One without a profile is fed as it is.

    Raises:
        ShapeOutsideProfile: a size is below the smallest or above the largest that its profile takes.
    """
    shapes = {}
    for spec in specs:
        given = inputs[spec.name].shape[1:]
        shapes[spec.name] = tuple(
            _fed_size(spec.name, name, size, profiles[name]) if isinstance(name, str) and name in profiles else size
            for name, size in zip(spec.shape[1:], given, strict=True)
        )
    return shapes


def _fed_size(tensor: str, dimension: str, size: int, profile: DimensionProfile) -> int:
    least = 1 if profile.buckets else profile.min
    if not least <= size <= profile.max:
        raise ShapeOutsideProfile(
            expected=f"{dimension!r} of input {tensor!r} from {least} to {profile.max}, as this engine was built for",
            found=f"{size}",
            remedy=f"scale or cut the samples to fit, or widen `shapes.{dimension}` in the region's policy",
        )
    return padded_size(size, profile)


def padded(inputs: Arrays, rows: int, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, NDArray[Any]]:
    """Contiguous arrays of `rows` samples of `shapes`: what `inputs` hold, then zeros at the end of every dimension."""
    result = {}
    for name, array in inputs.items():
        shape = (rows, *shapes[name])
        if array.shape == shape:
            result[name] = np.ascontiguousarray(array)
        else:
            result[name] = np.zeros(shape, array.dtype)
            result[name][tuple(slice(size) for size in array.shape)] = array
    return result

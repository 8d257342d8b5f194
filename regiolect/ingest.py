"""A region's samples from the user's source into the store, refused when they do not fit the model's inputs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import RegionDataset, SampleSet, Split, TensorSpec
from regiolect.data import RegionSource, Samples, samples_to_bytes
from regiolect.errors import InvalidSamples
from regiolect.storage import Store

_NAMED = 5  # samples named in an error


def ingest(source: RegionSource, store: Store, inputs: tuple[TensorSpec, ...], raw_dtype: str) -> RegionDataset:
    """Load the three sets, check them against the model's inputs, and keep each in the store.

    Args:
        source: the region's samples, as the user brings them.
        store: where each set is kept, as an .npz without pickle.
        inputs: the model's inputs. The samples' raw inputs must have the same names, rank and fixed dimensions.
        raw_dtype: the numpy dtype that the model's preprocessing takes.

    Returns:
        The sets' digests, and what the source declares of them.

    Raises:
        InvalidSamples: an input is missing, unknown, or of another shape or type than the model or another set has;
            a value is NaN or infinite; or labels are not integers although the source has classes.
        EmptyDataset: the source has no samples for a set.
        StorageError: the store cannot be written.
    """
    sets: dict[str, SampleSet] = {}
    dtypes: dict[str, np.dtype[Any]] = {}
    for split in Split:
        samples = source.load(split)
        where = f"in the {split.value} set of region {source.region!r}"
        _require_inputs(samples, inputs, raw_dtype, where)
        for name, array in {**samples.inputs, "targets": samples.targets}.items():
            _require_finite(array, name, samples.ids, where)
            first = dtypes.setdefault(name, array.dtype)
            # Text has its longest value's length in its dtype; only its kind says anything.
            if first != array.dtype and not first.kind == array.dtype.kind == "U":
                raise InvalidSamples(
                    expected=f"{name!r} as {first} {where}, as in the other sets",
                    found=str(array.dtype),
                    remedy="write the three sets with the same code, in the same unit and type",
                )
        if source.classes is not None:
            require_labels(samples, source.region, split)
        blob = store.put_bytes(samples_to_bytes(samples))
        sets[split.value] = SampleSet(region=source.region, split=split, samples=len(samples), blob=blob)
    return RegionDataset(region=source.region, declared=source.declared, classes=source.classes, **sets)


def require_labels(samples: Samples, region: str, split: Split) -> None:
    """Raises InvalidSamples unless the targets are integers of shape (n,)."""
    targets = samples.targets
    if targets.ndim != 1 or targets.dtype.kind not in "ui":
        raise InvalidSamples(
            expected=f"integer labels of shape ({len(samples)},) in the {split.value} set of region {region!r}",
            found=f"{targets.dtype} of shape {targets.shape}",
            remedy="save labels as integers from 0, or declare no classes (classes=None) where targets are no labels",
        )


def _require_inputs(samples: Samples, inputs: tuple[TensorSpec, ...], raw_dtype: str, where: str) -> None:
    wanted, given = {spec.name for spec in inputs}, set(samples.inputs)
    if wanted != given:
        raise InvalidSamples(
            expected=f"inputs {', '.join(sorted(wanted))} {where}, as the model names them",
            found=", ".join(sorted(given)),
            remedy="name the arrays in Samples.inputs after the inputs of the ModelSpec, no more and no fewer",
        )
    for spec in inputs:
        array = samples.inputs[spec.name]
        fixed = zip(spec.shape[1:], array.shape[1:], strict=False)
        fits = array.ndim == len(spec.shape) and all(isinstance(a, str) or a == b for a, b in fixed)
        if not fits or array.size == 0:
            raise InvalidSamples(
                expected=f"input {spec.name!r} of shape ({', '.join(map(str, spec.shape))}) {where}",
                found=str(array.shape),
                remedy="bring the samples to the model's layout, e.g. (n, channels, height, width), before saving them",
            )
        if array.dtype != raw_dtype:
            raise InvalidSamples(
                expected=f"input {spec.name!r} as {raw_dtype} {where}, as the model's preprocessing states",
                found=str(array.dtype),
                remedy=f"save the samples as {raw_dtype}, or state Preprocessing(raw_dtype={str(array.dtype)!r})",
            )


def _require_finite(array: NDArray[Any], name: str, ids: NDArray[np.str_], where: str) -> None:
    if array.dtype.kind not in "fc":
        return
    broken = ids[~np.isfinite(array.reshape(len(array), -1)).all(axis=1)]
    if len(broken):
        named = ", ".join(broken[:_NAMED]) + (", ..." if len(broken) > _NAMED else "")
        raise InvalidSamples(
            expected=f"finite values in {name!r} {where}",
            found=f"NaN or infinity in {len(broken)} of {len(ids)} samples: {named}",
            remedy="take out or repair these samples",
        )

"""The seal: a calibration table belongs to one region, model, preprocessing and dataset, and is used for no other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np

from regiolect.calibrate.histogram import Histogram
from regiolect.calibrate.thresholds import threshold
from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ExportedModel,
    SampleSet,
    Seal,
    Split,
    TensorRange,
    ValidatedCalibration,
    short,
)
from regiolect.data import Samples
from regiolect.errors import EmptyHistogram, ForeignCalibration, InvalidSamples
from regiolect.integrity import digest_of


@dataclass(frozen=True, eq=False)
class Observed:
    """Histograms by tensor, in graph order, and whose they are."""

    seal: Seal
    histograms: Mapping[str, Histogram]


def seal(model: ExportedModel, data: ValidatedCalibration, samples: Samples) -> Seal:
    """Whose a calibration of `model` on `samples` is; they are the calibration set of `data`."""
    return Seal(
        region=data.region,
        model=model.graph.digest,
        preprocessing=model.preprocessing_digest,
        dataset=data.dataset.calibration.digest,
        sample_ids=tuple(map(str, samples.ids)),
        checks=digest_of([check.model_dump(mode="json") for check in data.checks]),
        made=datetime.now(UTC),
    )


def table_of(observed: Observed, method: CalibrationMethod) -> CalibrationTable:
    """Thresholds by `method`, under the seal of what they were observed on.

    Raises:
        EmptyHistogram: a tensor was never reached.
    """
    tensors = {}
    for name, histogram in observed.histograms.items():
        if histogram.total == 0:
            raise EmptyHistogram(
                expected=f"at least one value in tensor {name!r}",
                found=f"none in {observed.seal.samples} samples of region {observed.seal.region!r}",
                remedy="add samples that reach this layer, or remove the layer from the model",
            )
        tensors[name] = TensorRange(
            threshold=threshold(histogram, method), minimum=histogram.minimum, maximum=histogram.maximum
        )
    return CalibrationTable(seal=observed.seal, method=method, tensors=tensors)


def require_own(
    own: Seal, *, region: str, model: ExportedModel, dataset: SampleSet | None = None
) -> None:
    """Refuse a calibration that was made for anything else than what is at hand.

    Raises:
        ForeignCalibration: the region, the model's graph, its preprocessing or, where given, the dataset differs;
            the error names every difference, both sides.
    """
    pairs = [
        ("region", region, own.region),
        ("model graph", short(model.graph.digest), short(own.model)),
        ("preprocessing", short(model.preprocessing_digest), short(own.preprocessing)),
    ]
    whole = [
        region == own.region,
        model.graph.digest == own.model,
        model.preprocessing_digest == own.preprocessing,
    ]
    if dataset is not None:
        pairs.append(("dataset", short(dataset.digest), short(own.dataset)))
        whole.append(dataset.digest == own.dataset)
    foreign = [pair for pair, same in zip(pairs, whole, strict=True) if not same]
    if foreign:
        wanted = ", ".join(f"{what} {mine}" for what, mine, _ in foreign)
        found = ", ".join(f"{what} {other}" for what, _, other in foreign)
        raise ForeignCalibration(
            expected=f"a calibration of {model.name!r} for region {region!r} sealed to {wanted}",
            found=f"one sealed to {found} (region {own.region!r}, {own.samples} samples)",
            remedy=f"calibrate on local data: {_command(region)}",
        )


def require_local(samples: Samples, data: ValidatedCalibration) -> None:
    """Refuse samples that are not the calibration set of their region.

    The data checks look at the same; a calibration must not depend on their having done so.

    Raises:
        ForeignCalibration: the set, or a sample, is of another region, or the set is not the calibration set.
        InvalidSamples: the file holds another number of samples than its record says.
    """
    record = data.dataset.calibration
    if record.region != data.region or record.split is not Split.CALIBRATION:
        raise ForeignCalibration(
            expected=f"the calibration set of region {data.region!r}",
            found=f"the {record.split} set of region {record.region!r}",
            remedy=f"prepare the region's data anew: {_command(data.region)} --force",
        )
    if len(samples) != record.samples:
        raise InvalidSamples(
            expected=f"{record.samples} samples in the calibration set of region {data.region!r}",
            found=f"{len(samples)}",
            remedy=f"prepare the region's data anew: {_command(data.region)} --force",
        )
    foreign = np.flatnonzero(samples.regions != data.region)
    if foreign.size:
        first, tag = str(samples.ids[foreign[0]]), str(samples.regions[foreign[0]])
        raise ForeignCalibration(
            expected=f"only samples of region {data.region!r} in its calibration set",
            found=f"{foreign.size} of another, the first {first!r} of {tag!r}",
            remedy=f"remove foreign samples from the region's data, then {_command(data.region)}",
        )


def _command(region: str) -> str:
    # A model's name is not the address that it is found by; only the user knows that.
    return f"regiolect run MODEL --regions {region}"

"""The seal: a calibration belongs to one region, model, preprocessing and dataset, is used for no other, and ages."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

import numpy as np

from regiolect.contracts import ExportedModel, SampleSet, Seal, Split, ValidatedCalibration, short
from regiolect.data import SampleIndex
from regiolect.errors import ForeignCalibration, InvalidSamples
from regiolect.integrity import digest_of


def seal(model: ExportedModel, data: ValidatedCalibration, ids: Iterable[str]) -> Seal:
    """Whose a calibration of `model` is, made now on the samples `ids` of the calibration set of `data`."""
    return Seal(
        region=data.region,
        model=model.graph.digest,
        preprocessing=model.preprocessing_digest,
        dataset=data.dataset.calibration.digest,
        sample_ids=tuple(map(str, ids)),
        checks=digest_of_checks(data),
        made=datetime.now(UTC),
    )


def digest_of_checks(data: ValidatedCalibration) -> str:
    """Digest of the data checks' results."""
    return digest_of([check.model_dump(mode="json") for check in data.checks])


def too_old(own: Seal, max_age_days: float | None, now: datetime | None = None) -> str | None:
    """Why a calibration holds no longer, in words, if it was made longer ago than a policy allows; None if it holds.

    One from further ahead than that is as doubtful: a clock was wrong. Whoever asks how old a calibration may be asks
    here.

    Args:
        max_age_days: None: it holds as long as its data.
        now: with a time zone; by default the clock's time.
    """
    if max_age_days is None:
        return None
    days = ((now or datetime.now(UTC)) - own.made) / timedelta(days=1)
    if abs(days) <= max_age_days:
        return None
    age = f"{days:.0f} days old" if days > 0 else f"dated {-days:.0f} days ahead of the clock"
    return f"its calibration is {age}, the policy allows {max_age_days:g}"


def require_own(own: Seal, *, region: str, model: ExportedModel, dataset: SampleSet | None = None) -> None:
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


def require_local(samples: SampleIndex, data: ValidatedCalibration) -> None:
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

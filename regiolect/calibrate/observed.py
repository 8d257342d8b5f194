"""What was seen of a model's tensors: parts put together, and a table made by any method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

from regiolect.calibrate.histogram import Extremes, Histogram, merge
from regiolect.calibrate.thresholds import threshold
from regiolect.contracts import CalibrationMethod, CalibrationTable, Seal, TensorRange, short
from regiolect.errors import EmptyHistogram, ForeignCalibration, InvalidCalibration, InvalidSetting

_SAME = "observe every part of the same set with the same arguments"


@dataclass(frozen=True)
class Shard:
    """One of `of` parts of a calibration set, in the set's order.

    Raises:
        InvalidSetting: no such part.
    """

    index: int = 0
    of: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.of:
            raise InvalidSetting(
                expected="a shard's index from 0 to one less than their number",
                found=f"{self.index} of {self.of}",
                remedy="number the shards 0, 1, 2, ...",
            )


WHOLE = Shard()


@dataclass(frozen=True, eq=False)
class Observed:
    """Histograms and ranges by tensor, in graph order, and whose they are.

    Attributes:
        seal: region, model, data; of a part, with the part's own sample ids.
        histograms: of what INT8 quantizes.
        ranges: of all other float32 tensors, where they were asked for.
        shard: the part of the calibration set that was seen.
    """

    seal: Seal
    histograms: Mapping[str, Histogram]
    ranges: Mapping[str, Extremes] = field(default_factory=dict)
    shard: Shard = WHOLE


def table_of(observed: Observed, method: CalibrationMethod) -> CalibrationTable:
    """Thresholds by `method`, under the seal of what they were observed on.

    A tensor of which only the range was kept has all of it, by any method; one that was empty in every sample is left
    out, for there is nothing of it that could overflow.

    Raises:
        EmptyHistogram: a tensor to quantize was never reached.
        InvalidCalibration: only a part of the calibration set was observed.
    """
    own = observed.seal
    if observed.shard.of > 1:
        raise InvalidCalibration(
            expected=f"an observation of the whole calibration set of region {own.region!r}",
            found=f"part {observed.shard.index + 1} of {observed.shard.of}, {own.samples} samples",
            remedy="put all parts together first: regiolect.calibrate.merge_observed",
        )
    tensors = {}
    for name, histogram in observed.histograms.items():
        if histogram.total == 0:
            raise EmptyHistogram(
                expected=f"at least one value in tensor {name!r}",
                found=f"none in {own.samples} samples of region {own.region!r}",
                remedy="add samples that reach this layer, or remove the layer from the model",
            )
        tensors[name] = TensorRange(
            threshold=threshold(histogram, method), minimum=histogram.minimum, maximum=histogram.maximum
        )
    for name, extent in observed.ranges.items():
        if extent.minimum <= extent.maximum:
            largest = max(-extent.minimum, extent.maximum)
            tensors[name] = TensorRange(threshold=largest, minimum=extent.minimum, maximum=extent.maximum)
    if not tensors:
        raise EmptyHistogram(
            expected="at least one tensor with a value",
            found=f"none in {own.samples} samples of region {own.region!r}",
            remedy="look at the samples: every tensor that they make is empty",
        )
    return CalibrationTable(seal=own, method=method, tensors=tensors)


def merge_observed(parts: Sequence[Observed]) -> Observed:
    """One observation from its parts, given in any order; the same as that of one pass over everything.

    Its sample ids are those of the parts in the set's order, and it is as old as the oldest part.

    Raises:
        InvalidCalibration: a part is missing, there twice, or of other tensors.
        ForeignCalibration: the parts are of different regions, models, preprocessings, data sets or data checks.
    """
    _require_complete(parts)
    ordered = sorted(parts, key=lambda part: part.shard.index)
    first = ordered[0]
    for part in ordered[1:]:
        _require_same_origin(first, part)
    ids = tuple(sample for part in ordered for sample in part.seal.sample_ids)
    if len(set(ids)) != len(ids):
        raise InvalidCalibration(
            expected="parts with no sample in common",
            found=f"{len(ids) - len(set(ids))} samples in two parts",
            remedy=_SAME,
        )
    whole = first.seal.model_copy(update={"sample_ids": ids, "made": min(part.seal.made for part in ordered)})
    return Observed(
        whole,
        {name: reduce(merge, (part.histograms[name] for part in ordered)) for name in first.histograms},
        {name: _widest([part.ranges[name] for part in ordered]) for name in first.ranges},
    )


def _widest(ranges: Sequence[Extremes]) -> Extremes:
    return Extremes(min(each.minimum for each in ranges), max(each.maximum for each in ranges))


def _require_complete(parts: Sequence[Observed]) -> None:
    given = sorted(part.shard.index for part in parts)
    numbers = {part.shard.of for part in parts}
    if len(numbers) != 1 or given != list(range(*numbers)):
        shards = ", ".join(f"{part.shard.index} of {part.shard.of}" for part in parts)
        raise InvalidCalibration(
            expected="every part of one observation, each once",
            found=shards or "none",
            remedy="observe the missing parts, and leave out those of other observations",
        )


def _require_same_origin(first: Observed, other: Observed) -> None:
    differences = list(_differences(first.seal, other.seal))
    if differences:
        raise ForeignCalibration(
            expected=f"parts of one observation: {', '.join(f'{what} {own}' for what, own, _ in differences)}",
            found=f"a part of another: {', '.join(f'{what} {foreign}' for what, _, foreign in differences)}",
            remedy="put together only parts of the same model, region and data",
        )
    same = list(first.histograms) == list(other.histograms) and list(first.ranges) == list(other.ranges)
    if not same:
        raise InvalidCalibration(expected="parts with the same tensors", found="other tensors", remedy=_SAME)


def _differences(one: Seal, other: Seal) -> Iterator[tuple[str, str, str]]:
    for what in ("region", "model", "preprocessing", "dataset", "checks"):
        mine, foreign = getattr(one, what), getattr(other, what)
        if mine != foreign:
            yield what, short(mine), short(foreign)

"""A study's samples: calibration and selection set of each region. Its gate set is never read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from regiolect.contracts import CheckResult, RegionDataset, SampleSet, Split, ValidatedCalibration
from regiolect.data import RegionSource, Samples, samples_to_bytes
from regiolect.errors import ForeignSamples, InvalidSamples, InvalidSetting, TooFewSamples
from regiolect.ingest import require_labels
from regiolect.integrity import digest_bytes
from regiolect.policy import RegionPolicy
from regiolect.storage import Store

# With fewer test samples a single one is worth more than a point, and no interval deserves its name.
LEAST_TESTED = 100
LEAST_DRAWN = 64


@dataclass(frozen=True, eq=False)
class RegionSets:
    """The two sets of a region that a study reads, raw."""

    policy: RegionPolicy
    source: RegionSource
    calibration: Samples
    selection: Samples

    @property
    def region(self) -> str:
        return self.policy.region


@dataclass(frozen=True)
class Draws:
    """How calibration samples are drawn: `size` of a region's set, without replacement, once a seed."""

    seeds: tuple[int, ...]
    size: int

    @classmethod
    def of(cls, seeds: int, size: int | None, regions: tuple[RegionSets, ...]) -> Draws:
        """The draws of a study: the same seeds and the same size in every region.

        Args:
            seeds: how many; they are 0, 1, ...
            size: samples in a draw; None for half of the smallest region's set, at least 64.

        Raises:
            InvalidSetting: fewer than 2 seeds, or a draw of no samples.
            TooFewSamples: a region has no more samples than a draw takes, so that every draw would be the same.
        """
        if seeds < 2:
            raise InvalidSetting(
                expected="at least 2 seeds: one draw says nothing of how much draws differ",
                found=f"{seeds}",
                remedy="--seeds 10",
            )
        least = min(regions, key=lambda each: len(each.calibration))
        chosen = size if size is not None else max(LEAST_DRAWN, len(least.calibration) // 2)
        if chosen < 1:
            raise InvalidSetting(
                expected="at least 1 calibration sample in a draw", found=f"{chosen}", remedy="--samples 256"
            )
        if chosen >= len(least.calibration):
            raise TooFewSamples(
                expected=f"more than the {chosen} samples of a draw in every region's calibration set",
                found=f"{len(least.calibration)} in that of {least.region!r}, so every draw would be the same",
                remedy=f"draw fewer, e.g. --samples {max(1, len(least.calibration) // 2)}, or bring more samples",
            )
        return cls(tuple(range(seeds)), chosen)

    def draw(self, sets: RegionSets, seed: int) -> Samples:
        """The calibration samples of a region that a seed draws, in the set's own order."""
        chosen = np.random.default_rng(seed).permutation(len(sets.calibration))[: self.size]
        return sets.calibration.take(np.sort(chosen))


def read_sets(source: RegionSource, policy: RegionPolicy) -> RegionSets:
    """Calibration and selection set of a region, refused where a figure of them would be worth nothing.

    Raises:
        DataError: a set cannot be read.
        ForeignSamples: a sample is of another region, or in both sets.
        InvalidSamples: two samples have the same id, or labels are none.
        TooFewSamples: the selection set is smaller than the policy's minimum, or than 100.
    """
    sets = RegionSets(policy, source, source.load(Split.CALIBRATION), source.load(Split.SELECTION))
    for split, samples in ((Split.CALIBRATION, sets.calibration), (Split.SELECTION, sets.selection)):
        _require_own(samples, split, policy.region)
        if source.classes is not None:
            require_labels(samples, policy.region, split)
    shared = np.intersect1d(sets.calibration.ids, sets.selection.ids)
    if shared.size:
        raise ForeignSamples(
            expected=f"no sample of the calibration set of region {policy.region!r} in its selection set",
            found=f"{shared.size} in both, the first {str(shared[0])!r}",
            remedy="make the region's sets disjoint: an engine would be tested on what it was calibrated on",
        )
    least = max(policy.samples.selection, LEAST_TESTED)
    if len(sets.selection) < least:
        raise TooFewSamples(
            expected=f"at least {least} samples in the selection set of region {policy.region!r}",
            found=f"{len(sets.selection)}",
            remedy="bring more samples, or leave the region out with --regions",
        )
    return sets


def _require_own(samples: Samples, split: Split, region: str) -> None:
    foreign = np.flatnonzero(samples.regions != region)
    if foreign.size:
        first, tag = str(samples.ids[foreign[0]]), str(samples.regions[foreign[0]])
        raise ForeignSamples(
            expected=f"only samples of region {region!r} in its {split} set",
            found=f"{foreign.size} of another, the first {first!r} of {tag!r}",
            remedy="remove foreign samples from the region's data",
        )
    ids, counts = np.unique(samples.ids, return_counts=True)
    if len(ids) != len(samples):
        raise InvalidSamples(
            expected=f"an id of its own for each sample in the {split} set of region {region!r}",
            found=f"{str(ids[counts.argmax()])!r} {counts.max()} times",
            remedy="give every sample a unique id",
        )


def digest_of_samples(samples: Samples) -> str:
    """Digest of a set, the same that the store gives it."""
    return digest_bytes(samples_to_bytes(samples))


def as_calibration_set(drawn: Samples, sets: RegionSets, store: Store) -> ValidatedCalibration:
    """A draw in the form that calibration takes, kept in the study's own store.

    The data set is put together without the other two sets, so that nothing that is handed it could open one.
    """
    region = sets.region
    blob = store.put_bytes(samples_to_bytes(drawn))
    kept = SampleSet(region=region, split=Split.CALIBRATION, samples=len(drawn), blob=blob)
    fields: dict[str, Any] = {
        "region": region,
        "calibration": kept,
        "declared": sets.source.declared,
        "classes": sets.source.classes,
    }
    dataset = RegionDataset.model_construct(None, **fields)
    check = CheckResult(
        expectation="samples of a study: of the region itself, and none in its selection set",
        split=Split.CALIBRATION,
        passed=True,
        expected=f"only samples of {region}",
        observed=f"{len(drawn)} drawn of {len(sets.calibration)}",
    )
    return ValidatedCalibration(dataset=dataset, checks=(check,))

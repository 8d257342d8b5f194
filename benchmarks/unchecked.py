"""Samples that a benchmark made up, as if a region's data checks had passed them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import (
    CheckResult,
    DeclaredStatistics,
    RegionDataset,
    RegionId,
    SampleSet,
    Split,
    ValidatedCalibration,
)
from regiolect.data import Samples, samples_to_bytes
from regiolect.storage import LocalStore


def samples_of(region: RegionId, inputs: Mapping[str, NDArray[np.generic]]) -> Samples:
    """Samples with the given inputs, whose first axis counts them, and all of the same class."""
    count = len(next(iter(inputs.values())))
    ids, regions = np.array([f"{region}/{row:04}" for row in range(count)]), np.full(count, region)
    return Samples(ids=ids, regions=regions, inputs=inputs, targets=np.zeros(count, np.int64))


def validated(samples: Samples, store: LocalStore) -> ValidatedCalibration:
    """The samples as calibration, selection and gate set of their region, kept in the store."""
    region, blob = str(samples.regions[0]), store.put_bytes(samples_to_bytes(samples))
    own = {split.value: SampleSet(region=region, split=split, samples=len(samples), blob=blob) for split in Split}
    # Nobody looks whether the samples are as declared.
    dataset = RegionDataset(region=region, declared=DeclaredStatistics(mean=(0, 1), std=(0, 1)), **own)
    seen = CheckResult(expectation="a benchmark's", split="all", passed=True, expected="any", observed="any")
    return ValidatedCalibration(dataset=dataset, checks=(seen,))

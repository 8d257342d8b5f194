"""Checks on a region's data before anything is calibrated or decided on it. The only importer of great_expectations.

The expectations are data: `expectations/set.yaml` for each of the three sets, `expectations/region.yaml` for the three
together.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from types import ModuleType

from regiolect.contracts import RegionDataset, Split, ValidatedCalibration
from regiolect.storage import Store


def validate_calibration(dataset: RegionDataset, store: Store, minimum: Mapping[Split, int]) -> ValidatedCalibration:
    """Check a region's three sets; safe to call from several threads.

    Args:
        dataset: the sets, and what the region declares of them.
        store: holds their samples.
        minimum: fewest samples of each of the three sets, as the policy states them: `policy.samples.by_split()`.

    Returns:
        The dataset with every check and what it observed.

    Raises:
        DataCheckFailed: at least one expectation was not met; `checks` on the error holds all of them.
        InvalidSamples: a set cannot be read, or labels are not integers although the region declares classes.
        IntegrityError, StorageError: the store's content is changed or missing.
    """
    logger = logging.getLogger("great_expectations")
    if logger.level == logging.NOTSET:
        # Its import alone logs hundreds of lines at INFO.
        logger.setLevel(logging.WARNING)
    checked: ValidatedCalibration = _suite().run_checks(dataset, store, minimum)
    return checked


def _suite() -> ModuleType:
    """What imports Great Expectations. That takes seconds, which a command that checks nothing must not pay.

    A thread of its own imports it: a region's deadline raises wherever the thread is that checks, and an import that is
    left midway may keep its lock, at which every other region would wait for ever.
    """
    with ThreadPoolExecutor(1) as importing:
        return importing.submit(import_module, "data_checks.suite").result()


__all__ = ["validate_calibration"]

"""The checks as a stage of a release: as those of `regiolect.release.stages`, which may not import this package."""

from __future__ import annotations

from data_checks import validate_calibration
from regiolect.contracts import RegionDataset, ValidatedCalibration
from regiolect.host.lock import sharing_machine
from regiolect.planning import RegionRequest
from regiolect.settings import store_of


def validate(request: RegionRequest, dataset: RegionDataset) -> ValidatedCalibration:
    """As `validate_calibration`, by the request's policy."""
    with sharing_machine():
        return validate_calibration(dataset, store_of(request), request.policy.samples.by_split())

"""A region's data: taken in, then checked."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_checks import stage
from regiolect.contracts import RegionDataset, ValidatedCalibration
from regiolect.errors.output import raising_no_secret
from regiolect.planning import RegionRequest
from regiolect.release import stages


@task(name="ingest", tags=["cpu"], cache_policy=NO_CACHE)
def ingest_data(request: RegionRequest) -> RegionDataset:
    with raising_no_secret():
        return stages.ingest(request)


@task(name="validate", tags=["cpu"], cache_policy=NO_CACHE)
def validate_data(request: RegionRequest, dataset: RegionDataset) -> ValidatedCalibration:
    with raising_no_secret():
        return stage.validate(request, dataset)

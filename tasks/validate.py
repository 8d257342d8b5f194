"""A region's data: taken in, then checked."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from data_checks import validate_calibration
from regiolect.contracts import RegionDataset, ValidatedCalibration
from regiolect.errors.output import raising_no_secret
from regiolect.host.lock import sharing_machine
from regiolect.ingest import ingest
from regiolect.model import load_model_spec
from regiolect.planning import RegionRequest, require_planned
from regiolect.settings import load_settings


@task(name="ingest", tags=["cpu"], cache_policy=NO_CACHE)
def ingest_data(request: RegionRequest) -> RegionDataset:
    spec = load_model_spec(request.model)
    with sharing_machine(), raising_no_secret():
        source, store = spec.region_data(request.region), load_settings().store(request.region)
        dataset = ingest(source, store, spec.inputs, spec.preprocessing.raw_dtype)
        require_planned(request, spec)
        return dataset


@task(name="validate", tags=["cpu"], cache_policy=NO_CACHE)
def validate_data(request: RegionRequest, dataset: RegionDataset) -> ValidatedCalibration:
    with sharing_machine(), raising_no_secret():
        return validate_calibration(dataset, load_settings().store(request.region), request.policy.samples.by_split())

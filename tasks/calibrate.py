"""What flows through the model on the region's own data."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.calibrate.once import calibrate_once, observe_for
from regiolect.contracts import CalibrationTable, ExportedModel, Observation, ValidatedCalibration
from regiolect.machine import sharing_machine
from regiolect.planning import RegionRequest
from regiolect.settings import load_settings


@task(name="observe", tags=["cpu"], cache_policy=NO_CACHE)
def observe_region(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, force: bool = False
) -> Observation | None:
    """What the policy's graphs need to be known; None for FP32, which needs nothing."""
    policy, store = request.policy, load_settings().store(request.region)
    with sharing_machine():
        return observe_for(
            policy.precision, model, data, store, max_age_days=policy.calibration.max_age_days, force=force
        )


@task(name="calibrate", tags=["cpu"], cache_policy=NO_CACHE)
def calibrate_region(request: RegionRequest, model: ExportedModel, data: ValidatedCalibration) -> CalibrationTable:
    """An INT8 table by the policy's method, whatever the policy's precision: drills ask for it."""
    with sharing_machine():
        store = load_settings().store(request.region)
        return calibrate_once(model, data, request.policy.calibration.method, store)

"""What flows through the model on the region's own data."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.contracts import CalibrationTable, ExportedModel, Observation, ValidatedCalibration
from regiolect.planning import RegionRequest
from regiolect.release import stages
from tasks.in_child import in_child


@task(name="observe", tags=["cpu"], cache_policy=NO_CACHE)
def observe_region(
    request: RegionRequest, model: ExportedModel, data: ValidatedCalibration, force: bool = False
) -> Observation | None:
    """What the policy's graphs need to be known; None for FP32, which needs nothing."""
    return in_child(stages.observe, request, model, data, force)


@task(name="calibrate", tags=["cpu"], cache_policy=NO_CACHE)
def calibrate_region(request: RegionRequest, model: ExportedModel, data: ValidatedCalibration) -> CalibrationTable:
    """An INT8 table by the policy's method, whatever the policy's precision: drills ask for it."""
    return in_child(stages.calibrate, request, model, data)

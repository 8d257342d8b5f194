"""Activation ranges on the region's own data."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.calibrate.once import calibrate_once
from regiolect.contracts import CalibrationMethod, CalibrationTable, ExportedModel, ValidatedCalibration
from regiolect.machine import sharing_machine
from regiolect.settings import load_settings


@task(name="calibrate", tags=["cpu"], cache_policy=NO_CACHE)
def calibrate_region(model: ExportedModel, data: ValidatedCalibration, method: CalibrationMethod) -> CalibrationTable:
    with sharing_machine():
        return calibrate_once(model, data, method, load_settings().store(data.region))

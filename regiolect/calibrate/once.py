"""Calibrate a model once on a region's data; every target of the region shares the table."""

from __future__ import annotations

from regiolect.contracts import CalibrationMethod, CalibrationTable, ExportedModel, ValidatedCalibration
from regiolect.remember import remember
from regiolect.storage import Store


def calibrate_once(
    model: ExportedModel, data: ValidatedCalibration, method: CalibrationMethod, store: Store
) -> CalibrationTable:
    """The region's calibration table, from an earlier run if neither model, data, preprocessing nor method changed.

    Raises:
        CalibrationError: as `calibrate`.
    """
    from regiolect.calibrate import calibrate

    inputs = {
        "model": model.graph.digest,
        "preprocessing": model.preprocessing_digest,
        "region": data.region,
        "dataset": data.dataset.calibration.digest,
        "method": method.value,
    }
    return remember(store, "calibrations", inputs, CalibrationTable, lambda: calibrate(model, data, method, store))

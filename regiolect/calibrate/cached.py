"""Observe a model once on a region's data; every target of the region, and every method, shares what was seen."""

from __future__ import annotations

from datetime import datetime

from regiolect.contracts import (
    CalibrationMethod,
    CalibrationTable,
    ExportedModel,
    Observation,
    Precision,
    ValidatedCalibration,
)
from regiolect.precision import traits
from regiolect.storage import Store
from regiolect.storage.stage_cache import cached


def cached_observation(
    model: ExportedModel,
    data: ValidatedCalibration,
    store: Store,
    *,
    histograms: bool = True,
    ranges: bool = False,
    max_age_days: float | None = None,
    now: datetime | None = None,
    force: bool = False,
) -> Observation:
    """What flows through the model on the region's calibration set, kept in the store.

    From an earlier run if neither model, data, data checks nor preprocessing changed and it is not too old.

    Args:
        histograms, ranges: what to keep, as of `observe`: histograms for INT8, ranges for FP16.
        max_age_days: an older one is made anew; None: it holds as long as its data.
        now: when to ask for the age, with a time zone; by default the clock's time.
        force: observe anew in any case.

    Raises:
        CalibrationError, InvalidSamples, InvalidOnnx: as `observe`.
    """
    from regiolect.calibrate import keep_observed, observe
    from regiolect.provenance import digest_of_checks, too_old

    inputs = {
        "model": model.graph.digest,
        "preprocessing": model.preprocessing_digest,
        "region": data.region,
        "dataset": data.dataset.calibration.digest,
        "checks": digest_of_checks(data),
        "histograms": str(histograms),
        "ranges": str(ranges),
    }

    def make() -> Observation:
        return keep_observed(observe(model, data, store, histograms=histograms, ranges=ranges), store)

    observation = cached(store, "observations", inputs, Observation, make, force=force)
    if too_old(observation.seal, max_age_days, now) is not None:
        return cached(store, "observations", inputs, Observation, make, force=True)
    return observation


def observe_for(
    precision: Precision,
    model: ExportedModel,
    data: ValidatedCalibration,
    store: Store,
    *,
    max_age_days: float | None = None,
    force: bool = False,
) -> Observation | None:
    """What graphs of a precision, and the wider ones that may take their place, need to be known; None for FP32.

    INT8 needs histograms. FP16 must not overflow, so the range of every tensor is kept; it is what an INT8 graph's
    remainder may be, and what takes the place of INT8 where that loses too much or gains too little.
    """
    observed = traits(precision).observed
    if observed == "nothing":
        return None
    histograms = observed == "histograms"
    return cached_observation(
        model, data, store, histograms=histograms, ranges=True, max_age_days=max_age_days, force=force
    )


def cached_calibration(
    model: ExportedModel,
    data: ValidatedCalibration,
    method: CalibrationMethod,
    store: Store,
    max_age_days: float | None = None,
) -> CalibrationTable:
    """The region's calibration table by `method`. Another method costs no other pass.

    Raises:
        CalibrationError, InvalidSamples, InvalidOnnx: as `observe` and `table_of`.
    """
    from regiolect.calibrate import read_observed, table_of

    observation = cached_observation(model, data, store, ranges=True, max_age_days=max_age_days)
    return table_of(read_observed(observation, store), method)

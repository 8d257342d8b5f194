from __future__ import annotations

from datetime import timedelta

from regiolect.calibrate import calibrate, read_observed, table_of
from regiolect.calibrate.cached import cached_calibration, cached_observation, observe_for
from regiolect.contracts import CalibrationMethod, CheckResult, Observation, Precision

ENTROPY, MINMAX = CalibrationMethod.ENTROPY, CalibrationMethod.MINMAX


def another(first: Observation, second: Observation) -> bool:
    """Whether a second observation is another one than the first."""
    assert (first == second) == (first.seal.made == second.seal.made)
    return first != second


def test_every_method_shares_one_pass(workshop, samples) -> None:
    model, data = workshop.model(), workshop.data(samples)
    tables = [cached_calibration(model, data, method, workshop.store) for method in CalibrationMethod]
    assert len({table.seal.made for table in tables}) == 1
    observation = cached_observation(model, data, workshop.store, ranges=True)
    assert observation.seal == tables[0].seal
    for table in tables:
        assert table == table_of(read_observed(observation, workshop.store), table.method)
        assert calibrate(model, data, table.method, workshop.store).tensors.items() <= table.tensors.items()


def test_other_model_data_preprocessing_region_or_checks_are_another_observation(workshop, network, samples) -> None:
    model, data, store = workshop.model(), workshop.data(samples), workshop.store
    first = cached_observation(model, data, store)
    checked = data.model_copy(
        update={"checks": (CheckResult(expectation="b", split="all", passed=True, expected="", observed=""),)}
    )
    others = [
        (workshop.model(network(seed=9)), data),
        (model.model_copy(update={"preprocessing_digest": "sha256:" + "3" * 64}), data),
        (model, workshop.data(samples.take(slice(0, 9)))),
        (model, checked),
    ]
    for other, its_data in others:
        assert another(first, cached_observation(other, its_data, store))


def test_ranges_are_kept_where_they_are_asked_for(workshop, samples) -> None:
    model, data, store = workshop.model(), workshop.data(samples), workshop.store
    plain = read_observed(cached_observation(model, data, store), store)
    both = read_observed(cached_observation(model, data, store, ranges=True), store)
    alone = read_observed(cached_observation(model, data, store, histograms=False, ranges=True), store)
    assert (len(plain.histograms), len(plain.ranges)) == (6, 0)
    assert both.ranges.keys() | both.histograms.keys() == alone.ranges.keys()
    assert not alone.histograms
    assert table_of(alone, MINMAX).tensors == table_of(both, MINMAX).tensors


def test_a_precision_has_what_it_and_its_wider_ones_need(workshop, samples) -> None:
    model, data, store = workshop.model(), workshop.data(samples), workshop.store
    assert observe_for(Precision.FP32, model, data, store) is None
    whole, half = (observe_for(each, model, data, store) for each in (Precision.INT8, Precision.FP16))
    assert whole is not None
    assert half is not None
    assert not another(whole, cached_observation(model, data, store, ranges=True))
    assert (
        table_of(read_observed(whole, store), ENTROPY).tensors.keys()
        == table_of(read_observed(half, store), MINMAX).tensors.keys()
    )
    assert not read_observed(half, store).histograms


def test_one_that_is_too_old_is_made_anew_and_kept(workshop, samples) -> None:
    model, data, store = workshop.model(), workshop.data(samples), workshop.store
    first = cached_observation(model, data, store)
    later = first.seal.made + timedelta(days=10)
    assert not another(first, cached_observation(model, data, store, max_age_days=10, now=later))
    assert not another(first, cached_observation(model, data, store, now=later))
    second = cached_observation(model, data, store, max_age_days=9.9, now=later)
    assert another(first, second)
    assert not another(second, cached_observation(model, data, store, max_age_days=1))


def test_force_and_lost_content_observe_anew(workshop, samples) -> None:
    model, data, store = workshop.model(), workshop.data(samples), workshop.store
    first = cached_observation(model, data, store)
    second = cached_observation(model, data, store, force=True)
    assert another(first, second)
    store.path_of(second.histograms).unlink()
    third = cached_observation(model, data, store)
    assert another(second, third)
    assert read_observed(third, store).histograms

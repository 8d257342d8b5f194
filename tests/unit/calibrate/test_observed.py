from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiolect.calibrate import Observed, Shard, merge_observed, observe, table_of
from regiolect.contracts import CalibrationMethod
from regiolect.errors import EmptyHistogram, ForeignCalibration, InvalidCalibration, InvalidSetting


def content(observed: Observed) -> tuple[object, ...]:
    """All that was seen, but for the time."""
    return (
        observed.seal.model_copy(update={"made": None}),
        observed.shard,
        [
            (name, each.exponent, each.minimum, each.maximum, each.counts.tolist())
            for name, each in observed.histograms.items()
        ],
        [(name, each.minimum, each.maximum) for name, each in observed.ranges.items()],
    )


@pytest.fixture
def parts(workshop, samples) -> list[Observed]:
    model, data = workshop.model(), workshop.data(samples)
    return [observe(model, data, workshop.store, batch=2, ranges=True, shard=Shard(index, 3)) for index in range(3)]


def test_merged_shards_are_what_one_pass_over_everything_gives(workshop, samples, parts) -> None:
    whole = observe(workshop.model(), workshop.data(samples), workshop.store, batch=2, ranges=True)
    assert [part.seal.samples for part in parts] == [4, 4, 3]
    for order in ([0, 1, 2], [2, 0, 1]):
        merged = merge_observed([parts[index] for index in order])
        assert content(merged) == content(whole)
        assert merged.seal.sample_ids == tuple(samples.ids.tolist())
        for method in CalibrationMethod:
            assert table_of(merged, method).tensors == table_of(whole, method).tensors


def test_a_merge_is_as_old_as_its_oldest_part(parts) -> None:
    aged = replace(parts[1], seal=parts[1].seal.model_copy(update={"made": parts[1].seal.made - timedelta(days=3)}))
    assert merge_observed([parts[0], aged, parts[2]]).seal.made == aged.seal.made


@settings(deadline=None, max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.permutations(range(11)), st.sampled_from([1, 2, 5, 11]))
def test_the_order_and_batches_of_samples_do_not_matter(workshop, samples, order, batch) -> None:
    model = workshop.model()
    counted = observe(model, workshop.data(samples), workshop.store, tensors=["image"], batch=3).histograms["image"]
    shuffled = workshop.data(samples.take(np.array(order)))
    again = observe(model, shuffled, workshop.store, tensors=["image"], batch=batch).histograms["image"]
    assert (again.exponent, again.minimum, again.maximum) == (counted.exponent, counted.minimum, counted.maximum)
    assert again.counts.tolist() == counted.counts.tolist()


def test_a_part_makes_no_table(parts) -> None:
    with pytest.raises(InvalidCalibration, match="part 2 of 3, 4 samples"):
        table_of(parts[1], CalibrationMethod.ENTROPY)


@pytest.mark.parametrize("given_parts", [[], [0, 1], [0, 1, 1, 2], [0, 0, 1]])
def test_a_part_that_is_missing_or_there_twice_is_refused(parts, given_parts) -> None:
    with pytest.raises(InvalidCalibration, match="each once"):
        merge_observed([parts[index] for index in given_parts])


@pytest.mark.parametrize("what", ["region", "model", "preprocessing", "dataset", "checks"])
def test_parts_of_another_origin_are_refused_with_both_named(parts, what) -> None:
    other = "na" if what == "region" else "sha256:" + "7" * 64
    foreign = replace(parts[2], seal=parts[2].seal.model_copy(update={what: other}))
    with pytest.raises(ForeignCalibration) as caught:
        merge_observed([parts[0], parts[1], foreign])
    assert f"{what} {getattr(parts[0].seal, what).removeprefix('sha256:')[:12]}" in caught.value.expected
    assert f"{what} {other.removeprefix('sha256:')[:12]}" in caught.value.found


def test_parts_that_saw_other_tensors_or_the_same_samples_are_refused(workshop, samples, parts) -> None:
    fewer = observe(workshop.model(), workshop.data(samples), workshop.store, batch=2, shard=Shard(2, 3))
    with pytest.raises(InvalidCalibration, match="other tensors"):
        merge_observed([parts[0], parts[1], fewer])
    with pytest.raises(InvalidCalibration, match="4 samples in two parts"):
        merge_observed([parts[0], parts[1], replace(parts[1], shard=Shard(2, 3))])


def test_impossible_shards_are_refused(workshop, samples) -> None:
    for index, of in ((1, 1), (-1, 2), (0, 0)):
        with pytest.raises(InvalidSetting, match=f"{index} of {of}"):
            Shard(index, of)
    with pytest.raises(InvalidSetting, match="at most 2 shards of 11 samples"):
        observe(workshop.model(), workshop.data(samples), workshop.store, batch=8, shard=Shard(0, 3))


def test_an_observation_without_a_value_makes_no_table(parts) -> None:
    with pytest.raises(EmptyHistogram, match="at least one tensor"):
        table_of(Observed(parts[0].seal, {}), CalibrationMethod.MINMAX)

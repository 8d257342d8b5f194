from __future__ import annotations

import math
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from regiolect.calibrate.histogram import BINS, Histogram, histogram_of, merge
from regiolect.errors import CalibrationError, NonFiniteActivation

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
# Powers of two sit exactly on bin edges and on grid ends.
edges = st.integers(-60, 60).map(lambda power: math.ldexp(1.0, power))
values = arrays(
    np.float32, st.integers(0, 40), elements=st.one_of(finite, edges, st.just(-0.0), st.floats(0, 4, width=32))
)
batches = st.lists(values, min_size=1, max_size=6)


def shown(batches: list[NDArray[np.float32]]) -> Histogram:
    histogram = Histogram()
    for batch in batches:
        histogram.update(batch)
    return histogram


def content(histogram: Histogram) -> tuple[object, ...]:
    # repr tells 0.0 from -0.0, as a table's bytes do.
    return (histogram.exponent, repr(histogram.minimum), repr(histogram.maximum), histogram.counts.tolist())


@settings(deadline=None, max_examples=60)
@given(batches, st.randoms(use_true_random=False))
def test_order_and_split_of_batches_do_not_matter(batches, random) -> None:
    whole = shown([np.concatenate(batches)])
    shuffled = list(batches)
    random.shuffle(shuffled)
    assert content(shown(batches)) == content(whole)
    assert content(shown(shuffled)) == content(whole)


@settings(deadline=None, max_examples=60)
@given(batches, st.integers(0, 6))
def test_merging_shards_equals_seeing_everything(batches, cut) -> None:
    whole = content(shown(batches))
    assert content(merge(shown(batches[:cut]), shown(batches[cut:]))) == whole
    assert content(merge(shown(batches[cut:]), shown(batches[:cut]))) == whole
    assert content(reduce(merge, [histogram_of(batch) for batch in batches])) == whole


@settings(deadline=None, max_examples=60)
@given(batches)
def test_every_value_is_counted_in_the_bin_that_holds_it(batches) -> None:
    histogram = shown(batches)
    everything = np.concatenate(batches).astype(np.float64)
    expected = np.bincount((np.abs(everything) / histogram.width).astype(np.int64), minlength=BINS)
    assert histogram.total == everything.size
    assert histogram.counts.tolist() == expected.tolist()
    if everything.size:
        assert (histogram.minimum, histogram.maximum) == (everything.min(), everything.max())
        assert histogram.magnitude == np.abs(everything).max() < math.ldexp(1.0, histogram.exponent)


def test_widening_in_the_middle_of_a_long_array_keeps_every_count() -> None:
    rng = np.random.default_rng(3)
    first, second = rng.normal(size=300_001), 1000 * rng.normal(size=299_999)
    streamed = shown([first.astype(np.float32), second.astype(np.float32)])
    assert content(streamed) == content(shown([second.astype(np.float32), first.astype(np.float32)]))
    assert streamed.total == 600_000


@pytest.mark.parametrize("cores", [1, 64])
def test_both_ways_of_counting_count_every_value(monkeypatch, cores) -> None:
    module = sys.modules[Histogram.__module__]
    monkeypatch.setattr(module, "_CORES", cores)
    rng = np.random.default_rng(5)
    for size in (1, 131_072, 200_000, 17):
        x = rng.normal(size=size).astype(np.float32)
        histogram = histogram_of(x)
        places = (np.abs(x.astype(np.float64)) / histogram.width).astype(np.int64)
        assert histogram.counts.tolist() == np.bincount(places, minlength=BINS).tolist()


def test_several_threads_count_at_once() -> None:
    arrays_ = [np.random.default_rng(seed).normal(size=300_000).astype(np.float32) for seed in range(8)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(histogram_of, arrays_))
    assert [content(each) for each in found] == [content(histogram_of(values)) for values in arrays_]


@pytest.mark.parametrize("zeros", [[0.0, -0.0], [-0.0, 0.0], [-0.0, -0.0]])
def test_a_table_does_not_tell_which_zero_came_first(zeros) -> None:
    streamed = shown([np.array([zero], np.float32) for zero in zeros])
    assert content(streamed) == content(histogram_of(np.zeros(2, np.float32)))


def test_merge_leaves_its_arguments_alone() -> None:
    one, other = histogram_of(np.ones(5, np.float32)), histogram_of(np.full(5, 100.0, np.float32))
    before = content(one), content(other)
    merge(one, other)
    assert (content(one), content(other)) == before


def test_histograms_of_different_resolution_do_not_merge() -> None:
    with pytest.raises(CalibrationError, match="bins"):
        merge(Histogram(), Histogram(counts=np.zeros(64, np.int64)))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_and_not_counted(poison) -> None:
    histogram = histogram_of(np.ones(3, np.float32))
    before = content(histogram)
    with pytest.raises(NonFiniteActivation):
        histogram.update(np.array([1.0, poison, 2.0], np.float32))
    assert content(histogram) == before


@pytest.mark.filterwarnings("error")
def test_the_largest_and_smallest_floats_have_a_bin() -> None:
    info = np.finfo(np.float32)
    assert histogram_of(np.array([info.max, -info.max], np.float32)).total == 2
    assert histogram_of(np.array([info.smallest_subnormal], np.float32)).total == 1

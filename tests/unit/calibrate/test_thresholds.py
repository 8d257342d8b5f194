from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from regiolect.calibrate.entropy import entropy_threshold
from regiolect.calibrate.histogram import BINS, Histogram, histogram_of, merge
from regiolect.calibrate.mse import mse_threshold
from regiolect.calibrate.thresholds import minmax_threshold, percentile_threshold, threshold
from regiolect.contracts import CalibrationMethod
from regiolect.errors import EmptyHistogram


def reference_threshold(histogram: Histogram, bins: int, levels: int) -> float:
    """The entropy threshold as its definition reads: build both distributions, bin by bin, for every candidate."""
    fine = [int(count) for count in histogram.counts]
    largest = max(abs(histogram.minimum), abs(histogram.maximum))
    if sum(fine[1:]) == 0:
        return largest
    smooth = reference_without_repeats(fine)
    per_bin = len(fine) // bins
    while per_bin > 1 and sum(fine[levels * per_bin :]) <= 0.001 * sum(smooth[1:]):
        per_bin //= 2
    starts = range(0, bins * per_bin, per_bin)
    window, seen = ([sum(each[start : start + per_bin]) for start in starts] for each in (smooth, fine))
    beyond = sum(fine[bins * per_bin :])
    used = max(index for index, count in enumerate(window) if count) + 1
    divergences = {}
    for keep in range(min(levels, used), used + 1):
        outliers = sum(seen[keep:]) + beyond
        if outliers > sum(window[:keep]) and keep < used:
            continue
        clipped = window[:keep]
        clipped[-1] += outliers
        groups: dict[int, list[int]] = {}
        for index in range(keep):
            groups.setdefault(index * levels // keep, []).append(index)
        quantized = [0.0] * keep
        for members in groups.values():
            filled = [index for index in members if window[index]]
            for index in filled:
                quantized[index] = sum(window[member] for member in members) / len(filled)
        divergences[keep] = divergence(clipped, quantized)
    least = min(divergences.values())
    best = max(keep for keep, value in divergences.items() if value <= least + 1e-9)
    return min(best * per_bin * histogram.width, largest)


def reference_without_repeats(counts: list[int]) -> list[int]:
    """No filled bin but the first above twice the median of the 65 around it, mirrored at both ends; then the first."""
    filled = [index for index, count in enumerate(counts) if count and index]
    held = [counts[index] for index in filled]
    mirrored = [*held, *reversed(held)]
    smooth = [0] * len(counts)
    for place, index in enumerate(filled):
        around = [mirrored[other % len(mirrored)] for other in range(place - 32, place + 33)]
        smooth[index] = min(counts[index], 2 * sorted(around)[32])
    return [smooth[1], *smooth[1:]]


def divergence(reference: list[int], model: list[float]) -> float:
    total, modelled = sum(reference), math.fsum(model)
    if any(p and not q for p, q in zip(reference, model, strict=True)) or not modelled:
        return math.inf
    terms = [p / total * math.log((p / total) / (q / modelled)) for p, q in zip(reference, model, strict=True) if p]
    return math.fsum(terms)


def reference_percentile(histogram: Histogram, percentile: float) -> float:
    """Bin after bin, until so many of the values beyond the first bin are below."""
    counts, largest = histogram.counts.tolist(), max(abs(histogram.minimum), abs(histogram.maximum))
    wanted, below = sum(counts[1:]) * (percentile / 100.0), 0
    for index, count in enumerate(counts):
        below += count if index else 0
        if index and below and below >= wanted:
            return min((index + 1) * histogram.width, largest)
    return largest


def reference_mse(histogram: Histogram, candidates: int, steps: int) -> float:
    """Every candidate, every bin: quantize its middle, square what is lost."""
    counts, largest = histogram.counts.tolist(), max(abs(histogram.minimum), abs(histogram.maximum))
    filled = {bin_: count for bin_, count in enumerate(counts) if count and bin_}
    if not filled:
        return largest
    apart = len(counts) // candidates
    tried = list(range(apart, math.ceil((max(filled) + 1) / apart) * apart + 1, apart))
    errors = {}
    for keep in [keep for keep in tried if keep > steps] or tried[-1:]:
        lost = []
        for bin_, count in filled.items():
            # Its middle, in whole units of 1 / (2 * steps) of a bin; a step is 2 * keep of them.
            middle = (2 * bin_ + 1) * steps
            nearest = min((middle + keep) // (2 * keep), steps) * 2 * keep
            lost.append(count * ((middle - nearest) / (2 * steps)) ** 2)
        errors[keep] = math.fsum(lost)
    power = math.fsum(count * (bin_ + 0.5) ** 2 for bin_, count in filled.items())
    best = max(keep for keep, error in errors.items() if error <= min(errors.values()) + 1e-12 * power)
    return min(best * histogram.width, largest)


def sample(kind: str, size: int, seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    drawn = {
        "normal": lambda: rng.normal(size=size),
        "relu": lambda: np.maximum(rng.normal(size=size), 0),
        "laplace": lambda: rng.laplace(size=size),
        "heavy": lambda: rng.standard_t(2, size=size),
        "uniform": lambda: rng.uniform(0, 6, size=size),
        "sparse": lambda: rng.normal(size=size) * (rng.random(size) < 0.01),
        "few values": lambda: rng.choice([0.0, 0.25, 1.0, 3.0], size=size),
        "outlier": lambda: np.append(rng.normal(size=size), 300.0),
        "skewed": lambda: rng.lognormal(sigma=1.5, size=size),
    }
    return drawn[kind]().astype(np.float32)


def coarse(histogram: Histogram, bins: int) -> Histogram:
    return Histogram(
        histogram.counts.reshape(bins, -1).sum(axis=1), histogram.exponent, histogram.minimum, histogram.maximum
    )


KINDS = ("normal", "relu", "laplace", "heavy", "uniform", "sparse", "few values", "outlier", "skewed")


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 3000), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_entropy_equals_the_reference(kind, size, seed, scale) -> None:
    fine = histogram_of(sample(kind, size, seed) * np.float32(scale))
    small = coarse(fine, 512)
    assert entropy_threshold(small, bins=64, levels=8) == reference_threshold(small, bins=64, levels=8)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 10**6)), min_size=128, max_size=128))
def test_entropy_equals_the_reference_on_any_counts(counts) -> None:
    counts[100] = 1
    histogram = Histogram(np.array(counts, np.int64), exponent=0, minimum=0.0, maximum=127.5 / 128)
    assert entropy_threshold(histogram, bins=32, levels=4) == reference_threshold(histogram, bins=32, levels=4)


@pytest.mark.parametrize("kind", ["relu", "laplace"])
def test_entropy_equals_the_reference_at_full_size(kind) -> None:
    histogram = histogram_of(sample(kind, 100_000, seed=5))
    assert entropy_threshold(histogram) == reference_threshold(histogram, bins=2048, levels=128)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 3000), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_mse_equals_the_reference(kind, size, seed, scale) -> None:
    small = coarse(histogram_of(sample(kind, size, seed) * np.float32(scale)), 256)
    assert mse_threshold(small, candidates=64, steps=7) == reference_mse(small, candidates=64, steps=7)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.one_of(st.just(0), st.integers(0, 5), st.integers(0, 10**6)), min_size=128, max_size=128))
def test_mse_equals_the_reference_on_any_counts(counts) -> None:
    counts[100] = 1
    histogram = Histogram(np.array(counts, np.int64), exponent=0, minimum=0.0, maximum=127.5 / 128)
    assert mse_threshold(histogram, candidates=32, steps=3) == reference_mse(histogram, candidates=32, steps=3)


def test_mse_equals_the_reference_at_full_size() -> None:
    histogram = histogram_of(np.append(sample("laplace", 300, seed=5), np.float32(40.0)))
    assert mse_threshold(histogram) == reference_mse(histogram, candidates=1024, steps=127)


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(KINDS), st.integers(1, 3000), st.integers(0, 10**6), st.floats(0.01, 100))
def test_percentile_and_minmax_equal_the_reference(kind, size, seed, percentile) -> None:
    x = sample(kind, size, seed)
    histogram = histogram_of(x)
    assert percentile_threshold(histogram, percentile) == reference_percentile(histogram, percentile)
    assert minmax_threshold(histogram) == max(abs(float(value)) for value in x)


@pytest.mark.parametrize("kind", ["laplace", "skewed", "normal", "uniform"])
def test_no_threshold_has_a_smaller_squared_error_than_that_of_mse(kind) -> None:
    x = np.abs(sample(kind, 300_000, seed=6)).astype(np.float64)

    def error(clip: float) -> float:
        step = clip / 127
        return float(np.mean((x - np.minimum(np.rint(x / step), 127) * step) ** 2))

    best = mse_threshold(histogram_of(x.astype(np.float32)))
    assert error(best) <= 1.01 * min(error(clip) for clip in np.linspace(0.05, 1.0, 60) * x.max())


@pytest.mark.parametrize("outlier", [50.0, 500.0, 5000.0])
def test_outliers_are_clipped_and_the_bulk_is_kept(outlier) -> None:
    x = np.append(np.random.default_rng(0).normal(size=100_000), outlier).astype(np.float32)
    assert 2.0 < threshold(histogram_of(x), CalibrationMethod.ENTROPY) < 10.0
    assert 2.0 < threshold(histogram_of(x), CalibrationMethod.PERCENTILE) < 10.0
    assert threshold(histogram_of(x), CalibrationMethod.MINMAX) == outlier


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).integers(21, 211, 10_000) / 255,
        np.random.default_rng(0).normal(3.0, 0.5, 100_000),
        1 / (1 + np.exp(-np.abs(np.random.default_rng(0).normal(size=100_000)))),
        np.append(np.random.default_rng(0).uniform(1, 9, 10_000), np.zeros(1000)),
    ],
    ids=["grey images without a dark pixel", "activations with an offset", "probabilities above a half", "and zeros"],
)
def test_entropy_keeps_values_that_all_lie_far_from_zero(values) -> None:
    kept = entropy_threshold(histogram_of(values.astype(np.float32)))
    assert (values > kept).mean() < 0.01


def test_entropy_clips_a_long_tail_and_keeps_a_flat_distribution() -> None:
    tail = sample("laplace", 1_000_000, seed=1)
    flat = sample("uniform", 1_000_000, seed=1)
    assert 0.4 * tail.max() < entropy_threshold(histogram_of(tail)) < 0.95 * np.abs(tail).max()
    assert entropy_threshold(histogram_of(flat)) > 0.99 * flat.max()


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_zeros_do_not_pull_a_threshold_down(method) -> None:
    x = np.abs(sample("normal", 20_000, seed=2))
    padded = np.concatenate([x, np.zeros(200 * x.size, np.float32)])
    assert threshold(histogram_of(padded), method) == threshold(histogram_of(x), method)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(1, 10**7))
def test_zeros_do_not_move_the_entropy_threshold(kind, seed, zeros) -> None:
    histogram = histogram_of(sample(kind, 2000, seed))
    padded = replace(histogram, counts=histogram.counts + np.eye(1, BINS, dtype=np.int64)[0] * zeros)
    assert entropy_threshold(padded) == entropy_threshold(histogram)


@pytest.mark.parametrize("share", [0.5, 0.9, 0.999])
@pytest.mark.parametrize("channels", [1, 16])
def test_what_a_bias_makes_of_the_background_does_not_pull_the_entropy_threshold_down(share, channels) -> None:
    rng = np.random.default_rng(3)
    x = np.abs(rng.normal(size=20_000)).astype(np.float32)
    background = np.abs(rng.normal(scale=0.1, size=channels)).astype(np.float32)
    repeated = np.tile(background, int(x.size * share / (1 - share)) // channels)
    kept = entropy_threshold(histogram_of(np.concatenate([x, repeated])))
    assert (x > kept).mean() < 0.001


def test_a_ceiling_that_many_values_reach_is_kept_by_entropy() -> None:
    x = np.minimum(sample("laplace", 100_000, seed=3), np.float32(2.0))
    assert entropy_threshold(histogram_of(x[x > 0])) == 2.0


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_a_tensor_that_is_always_zero_has_threshold_zero(method) -> None:
    assert threshold(histogram_of(np.array([0.0, -0.0], np.float32)), method) == 0.0


@pytest.mark.parametrize("method", list(CalibrationMethod))
@pytest.mark.parametrize("value", [3.0, -0.7, 4.0, 1e-40, 3e38])
def test_a_constant_tensor_keeps_its_value(method, value) -> None:
    assert threshold(histogram_of(np.full(10, value, np.float32)), method) == abs(np.float32(value))


@pytest.mark.parametrize("method", list(CalibrationMethod))
def test_nothing_counted_is_an_error(method) -> None:
    with pytest.raises(EmptyHistogram):
        threshold(Histogram(), method)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(0, 2000), st.sampled_from(list(CalibrationMethod)))
def test_merged_shards_give_the_thresholds_of_the_whole(kind, seed, cut, method) -> None:
    x = sample(kind, 2000, seed)
    merged = merge(histogram_of(x[cut:]), histogram_of(x[:cut]))
    assert threshold(merged, method) == threshold(histogram_of(x), method)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(KINDS), st.integers(0, 10**6), st.integers(-40, 40), st.sampled_from(list(CalibrationMethod)))
def test_a_tensor_in_other_units_has_its_threshold_in_those_units(kind, seed, power, method) -> None:
    x, factor = sample(kind, 2000, seed), math.ldexp(1.0, power)
    assert threshold(histogram_of(x * np.float32(factor)), method) == factor * threshold(histogram_of(x), method)


def test_percentile_is_that_of_the_values_to_within_a_bin() -> None:
    x = sample("laplace", 500_000, seed=4)
    histogram = histogram_of(x)
    exact = np.percentile(np.abs(x), 99.99)
    assert exact - histogram.width <= percentile_threshold(histogram) <= exact + 0.01 * exact
    assert percentile_threshold(histogram, 50.0) < percentile_threshold(histogram, 99.0)
    assert percentile_threshold(histogram, 100.0) == minmax_threshold(histogram) == np.abs(x).max()

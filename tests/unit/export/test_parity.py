from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.contracts import TensorSpec
from regiolect.errors import ParityFailed
from regiolect.export.parity import Batch, compare
from regiolect.model import ModelSpec


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> ModelSpec:
    path = tmp_path_factory.mktemp("model") / "m.onnx"
    path.touch()
    return ModelSpec(
        name="m",
        loader=path,
        inputs=(TensorSpec(name="x", shape=("n", 2)),),
        outputs=("y",),
        metrics={"m": lambda outputs, targets: targets},
        data={},
        parity_tolerance=0.01,
    )


def rows(count: int) -> Batch:
    values = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    return Batch(ids=tuple(f"id{index}" for index in range(count)), inputs={"x": values})


def off_at(row: int, by: float):
    def run(inputs):
        wrong = np.where(inputs["x"][:, :1] == 2 * row, np.float32(by), np.float32(0))
        return [inputs["x"] + wrong]

    return run


@given(data=st.data(), count=st.integers(1, 64))
def test_a_difference_on_any_sample_is_found_and_named(spec, data, count):
    row = data.draw(st.integers(0, count - 1))
    by = data.draw(st.sampled_from([0.5, -0.5, np.nan, np.inf]))
    with pytest.raises(ParityFailed, match=f"'id{row}'"):
        compare(spec, lambda inputs: [inputs["x"]], off_at(row, by), rows(count))


@given(count=st.integers(1, 64))
def test_a_difference_within_tolerance_passes_with_its_size(spec, count):
    report = compare(spec, lambda inputs: [inputs["x"]], off_at(count - 1, 2**-8), rows(count))
    assert report.samples == count
    assert report.worst_sample == f"id{count - 1}"
    assert report.worst_error == 2**-8


def test_nan_on_both_sides_is_no_agreement(spec):
    with pytest.raises(ParityFailed, match="NaN"):
        compare(spec, off_at(3, np.nan), off_at(3, np.nan), rows(9))


def test_outputs_must_have_a_row_per_sample(spec):
    def mean(inputs):
        return [inputs["x"].mean(axis=0, keepdims=True)]

    with pytest.raises(ParityFailed, match="one row per sample"):
        compare(spec, mean, mean, rows(9))


def scaled(by: float, wrong: float = 0.0):
    return lambda inputs: [(inputs["x"] + np.float32(1)) * np.float32(by) * (1 + np.float32(wrong))]


@pytest.mark.parametrize("tolerance", [1e-4, 1.0])
def test_large_outputs_may_differ_by_their_rounding(spec, tolerance):
    """Boxes of 640 pixels were refused for what FP32 cannot tell apart."""
    small = replace(spec, parity_tolerance=tolerance)
    report = compare(small, scaled(320), scaled(320, 5e-6), rows(1))
    assert report.worst_error > 1e-3
    assert report.worst_error == pytest.approx(640 * 5e-6, rel=0.1)


def test_what_is_more_than_rounding_is_refused_however_large_the_tolerance(spec):
    with pytest.raises(ParityFailed, match="beside 1e-05 of what a value counts beyond 1"):
        compare(replace(spec, parity_tolerance=1e-4), scaled(320), scaled(320, 2e-5), rows(1))
    with pytest.raises(ParityFailed, match=r"a difference of 6\.4 "):
        compare(replace(spec, parity_tolerance=1.0), scaled(320), scaled(320, 0.01), rows(1))


def test_what_counts_up_to_1_is_held_to_the_tolerance_alone(spec):
    wrong = replace(spec, parity_tolerance=1e-4)
    with pytest.raises(ParityFailed):
        compare(wrong, scaled(0.5), scaled(0.5, 1.02e-4), rows(1))


def test_small_values_beside_large_ones_are_held_to_the_tolerance(spec):
    def mixed(wrong: float):
        return lambda inputs: [inputs["x"] * np.float32(0) + np.asarray([640, 0.5 + wrong], np.float32)]

    with pytest.raises(ParityFailed):
        compare(replace(spec, parity_tolerance=1e-4), mixed(0), mixed(2e-4), rows(3))


def test_a_tolerance_of_nothing_leaves_nothing_to_rounding(spec):
    with pytest.raises(ParityFailed, match="within 0, beside 0"):
        compare(replace(spec, parity_tolerance=0.0), scaled(320), scaled(320, 1e-6), rows(1))

from __future__ import annotations

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

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from onnx import GraphProto

from regiolect.contracts import TensorRange
from regiolect.errors import PrecisionOverflow
from regiolect.graphs import qdq


def test_a_scale_beyond_float16_is_refused():
    huge = TensorRange(threshold=1e9, minimum=-1e9, maximum=1e9)
    with pytest.raises(PrecisionOverflow, match="float16"):
        qdq.activation_scale(huge, True, np.float16)
    assert qdq.activation_scale(huge, True, np.float32)[0] == pytest.approx(1e9 / 127)


scale_types = st.sampled_from([np.float16, np.float32])


@given(
    minimum=st.floats(-1e6, 1e6),
    width=st.floats(1e-20, 1e6),
    clipped=st.floats(0.01, 1.0),
    signed=st.booleans(),
    scale_type=scale_types,
)
def test_the_range_within_the_threshold_is_representable_and_not_much_more(minimum, width, clipped, signed, scale_type):
    maximum = minimum + width
    threshold = clipped * max(abs(minimum), abs(maximum))
    observed = TensorRange(threshold=threshold, minimum=minimum, maximum=maximum)
    scale, zero_point = qdq.activation_scale(observed, signed, scale_type)
    assert scale > 0 and np.isfinite(np.float32(1) / scale)
    assert float(scale_type(scale)) == float(scale), "exact in its type"
    lowest, highest = (-127, 127) if signed else (0, 255)
    assert lowest <= zero_point <= highest
    lower, upper = max(min(minimum, 0), -threshold), min(max(maximum, 0), threshold)
    half = 0.5001 * float(scale)
    assert float(scale) * (lowest - zero_point) - half <= lower
    assert float(scale) * (highest - zero_point) + half >= upper
    if threshold > 1e-1:
        levels = 127 if signed else 255 * threshold / (upper - lower)
        assert float(scale) == pytest.approx(threshold / levels, rel=2e-2 if scale_type is np.float16 else 1e-5)


def test_a_tensor_that_is_hardly_ever_negative_loses_no_levels():
    """Hard swish never falls below -3/8."""
    observed = TensorRange(threshold=7.1, minimum=-0.375, maximum=7.1)
    scale, zero_point = qdq.activation_scale(observed, False, np.float32)
    assert scale == pytest.approx(7.475 / 255) and zero_point == 13


@pytest.mark.parametrize(("minimum", "maximum", "zero_point"), [(0.5, 2, 0), (-2, -0.5, 255), (-2, 2, 128)])
def test_zero_lies_where_the_range_says(minimum, maximum, zero_point):
    assert qdq.activation_scale(TensorRange(threshold=2, minimum=minimum, maximum=maximum), False, np.float32)[1] == (
        zero_point
    )


@given(
    weight=arrays(
        np.float32, array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-100, 100, width=32)
    ),
    scale_type=scale_types,
    data=st.data(),
)
def test_packed_weights_are_within_half_a_step(weight, scale_type, data):
    axis = data.draw(st.sampled_from([None, *range(weight.ndim)]))
    scales = qdq.weight_scales(weight, axis, scale_type).astype(np.float64)
    shaped = scales.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    steps = weight / shaped
    assert np.all(scales > 0) and np.all(np.abs(steps) <= 127 * (1 + 1e-6))
    assert np.all(np.abs(np.rint(steps) * shaped - weight) <= shaped * 0.5001)


WEIGHTS = arrays(np.float32, array_shapes(min_dims=1, max_dims=4, max_side=5), elements=st.floats(-100, 100, width=32))


@given(weight=WEIGHTS, scale_type=scale_types, data=st.data())
def test_no_two_steps_of_a_channel_leave_int16_together(weight, scale_type, data):
    axis = data.draw(st.sampled_from([None, *range(weight.ndim)]))
    scales = qdq.weight_scales(weight, axis, scale_type, pairs_in_int16=True)
    shaped = scales.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    # As QuantizeLinear does.
    steps = np.clip(np.rint(weight / shaped), -127, 127).astype(int)
    channels = steps.reshape(1, -1) if axis is None else np.moveaxis(steps, axis, 0).reshape(steps.shape[axis], -1)
    for one in channels:
        pairs = one[:, None] + one[None, :]
        np.fill_diagonal(pairs, 0)
        assert np.abs(255 * pairs).max(initial=0) <= np.iinfo(np.int16).max
    # Nothing is clipped, and what a single weight needs costs no other one its levels.
    assert np.all(np.abs(steps * shaped - weight) <= shaped * 0.5001)
    assert np.all(scales <= 2.04 * qdq.weight_scales(weight, axis, scale_type))


def test_a_weight_that_stands_out_keeps_eight_bits():
    weight = np.float32([[1, 0.001, -0.002], [1, 1, 0], [1, -1, 0.5]])
    plain = qdq.weight_scales(weight, 0, np.float32)
    paired = qdq.weight_scales(weight, 0, np.float32, pairs_in_int16=True)
    np.testing.assert_allclose(paired / plain, [1.001, 127 / 64, 1.5], rtol=1e-3)


def test_a_name_that_is_wanted_often_stays_short():
    """Each got one underscore more: 4,000 zero points of one name took 20 s."""
    names = qdq.Names(GraphProto())
    made = [names.new("zero_point") for _ in range(2000)]
    assert made[:3] == ["zero_point", "zero_point_", "zero_point_2"]
    assert len(set(made)) == 2000 and max(map(len, made)) < 20

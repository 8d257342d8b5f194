from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from regiolect.contracts import TensorRange
from regiolect.errors import PrecisionOverflow
from regiolect.graphs import quantize


def test_a_scale_beyond_float16_is_refused():
    huge = TensorRange(threshold=1e9, minimum=-1e9, maximum=1e9)
    with pytest.raises(PrecisionOverflow, match="float16"):
        quantize.activation_scale(huge, True, np.float16)
    assert quantize.activation_scale(huge, True, np.float32)[0] == pytest.approx(1e9 / 127)


scale_types = st.sampled_from([np.float16, np.float32])


@given(
    threshold=st.floats(1e-30, 1e6),
    minimum=st.sampled_from([-1.0, 0.0, 0.5]),
    signed=st.booleans(),
    scale_type=scale_types,
)
def test_the_whole_range_up_to_the_threshold_is_representable(threshold, minimum, signed, scale_type):
    observed = TensorRange(threshold=threshold, minimum=minimum, maximum=threshold)
    scale, zero_point = quantize.activation_scale(observed, signed, scale_type)
    highest = 127 if signed else 255
    reach = np.float64(scale) * (highest - zero_point)
    assert scale > 0 and np.isfinite(np.float32(1) / scale)
    assert float(scale_type(scale)) == float(scale), "exact in its type"
    assert reach >= threshold
    if minimum < 0:
        lowest = -127 if signed else 0
        assert np.float64(scale) * (lowest - zero_point) <= -threshold
    if threshold > 1e-1:
        assert reach <= threshold * 1.01, "and not much more than that"


@given(
    weight=arrays(
        np.float32, array_shapes(min_dims=2, max_dims=4, max_side=4), elements=st.floats(-100, 100, width=32)
    ),
    scale_type=scale_types,
    data=st.data(),
)
def test_packed_weights_are_within_half_a_step(weight, scale_type, data):
    axis = data.draw(st.sampled_from([None, *range(weight.ndim)]))
    scales = quantize.weight_scales(weight, axis, scale_type).astype(np.float64)
    shaped = scales.reshape([-1 if index == axis else 1 for index in range(weight.ndim)])
    steps = weight / shaped
    assert np.all(scales > 0) and np.all(np.abs(steps) <= 127 * (1 + 1e-6))
    assert np.all(np.abs(np.rint(steps) * shaped - weight) <= shaped * 0.5001)

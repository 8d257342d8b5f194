from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from regiolect.contracts import BatchProfile, DimensionProfile, TensorSpec
from regiolect.engines.inputs import batches, checked_rows, fed_shapes, padded, padded_size
from regiolect.errors import InvalidSamples, ShapeOutsideProfile

IMAGE = TensorSpec(name="image", shape=("batch", 3, "side", "side"))
MASK = TensorSpec(name="mask", shape=("n", "side"))


def inputs(rows: int = 2, side: int = 4, mask_rows: int | None = None, mask_side: int | None = None) -> dict:
    return {
        "image": np.ones((rows, 3, side, side), np.float32),
        "mask": np.ones((rows if mask_rows is None else mask_rows, mask_side or side), np.float32),
    }


@pytest.mark.parametrize("rows", [0, 1, 7])
@pytest.mark.parametrize("side", [1, 5])
def test_good_inputs_give_their_number_of_rows(rows: int, side: int) -> None:
    assert checked_rows((IMAGE, MASK), inputs(rows, side)) == rows


def test_a_symbolic_dimension_has_one_size() -> None:
    with pytest.raises(InvalidSamples, match="mask"):
        checked_rows((IMAGE, MASK), inputs(mask_side=3))
    with pytest.raises(InvalidSamples, match="image"):
        checked_rows((IMAGE,), {"image": np.ones((2, 3, 4, 5), np.float32)})


def test_all_inputs_have_the_same_number_of_rows() -> None:
    with pytest.raises(InvalidSamples, match="mask"):
        checked_rows((IMAGE, MASK), inputs(mask_rows=3))


def test_missing_and_unknown_inputs_are_named() -> None:
    with pytest.raises(InvalidSamples, match=r"image, mask.*found image"):
        checked_rows((IMAGE, MASK), {"image": inputs()["image"]})
    with pytest.raises(InvalidSamples, match="other"):
        checked_rows((IMAGE,), {"image": inputs()["image"], "other": np.zeros(2)})


def test_every_spoiled_row_is_counted_and_the_first_named() -> None:
    image = inputs(6)["image"]
    image[[2, 4], 1, 0, 0] = np.nan
    with pytest.raises(InvalidSamples, match="row 2 and 1 more"):
        checked_rows((IMAGE,), {"image": image})


@st.composite
def profiles(draw: st.DrawFn) -> BatchProfile:
    low, opt, high = sorted(draw(st.tuples(*[st.integers(1, 40)] * 3)))
    inner = draw(st.sets(st.integers(1, high)))
    return BatchProfile(min=low, opt=opt, max=high, buckets=draw(st.sampled_from([(), tuple(sorted(inner | {high}))])))


@given(profile=profiles(), data=st.data())
def test_a_padded_batch_holds_the_samples_and_fits_the_profile(profile: BatchProfile, data: st.DataObject) -> None:
    rows = data.draw(st.integers(1, profile.max))
    size = padded_size(rows, profile)
    assert max(rows, profile.min) <= size <= profile.max
    assert not profile.buckets or size in profile.buckets
    given_rows = np.arange(1, rows * 2 + 1, dtype=np.float32).reshape(rows, 2)
    fed = padded({"x": given_rows}, size, {"x": (2,)})["x"]
    assert fed.shape == (size, 2)
    assert fed.flags.c_contiguous
    np.testing.assert_array_equal(fed[:rows], given_rows)
    assert not fed[rows:].any()


@given(profile=profiles(), data=st.data())
def test_padding_goes_to_the_nearest_size_that_fits_and_keeps_every_value(
    profile: BatchProfile, data: st.DataObject
) -> None:
    side = DimensionProfile(**profile.model_dump())
    size = data.draw(st.integers(1 if side.buckets else side.min, side.max))
    rows = data.draw(st.integers(1, 3))
    # A view into something larger, full of what must not be read.
    whole = np.full((rows + 1, 2, size + 3), np.float32(7))
    image = whole[:rows, :, :size]
    image[:] = np.arange(1, image.size + 1).reshape(image.shape)
    spec = TensorSpec(name="x", shape=("batch", 2, "side"))
    shapes = fed_shapes([spec], {"x": image}, {"side": side})
    fed = padded({"x": image}, rows + 1, shapes)["x"]
    fits = [bucket for bucket in side.buckets if bucket >= max(size, side.min)] or [max(size, side.min)]
    assert shapes == {"x": (2, fits[0])}
    assert fed.shape == (rows + 1, 2, fits[0])
    np.testing.assert_array_equal(fed[:rows, :, :size], image)
    assert fed.sum() == image.sum()
    assert np.count_nonzero(fed) == image.size


@given(profile=profiles(), over=st.integers(1, 5))
def test_a_size_outside_the_profile_is_refused(profile: BatchProfile, over: int) -> None:
    spec, side = TensorSpec(name="x", shape=("batch", "side")), DimensionProfile(**profile.model_dump())
    least = 1 if side.buckets else side.min
    for wrong in (side.max + over, least - 1):
        with pytest.raises(ShapeOutsideProfile, match=f"'side'.* from {least} to {side.max}.*found {wrong}"):
            fed_shapes([spec], {"x": np.zeros((1, wrong), np.float32)}, {"side": side})


def test_inputs_that_share_a_dimension_are_padded_alike() -> None:
    side = DimensionProfile(min=2, opt=4, max=8, buckets=(4, 8))
    shapes = fed_shapes((IMAGE, MASK), inputs(side=5), {"side": side, "depth": DimensionProfile(min=1, opt=1, max=1)})
    assert shapes == {"image": (3, 8, 8), "mask": (8,)}


def test_a_dimension_without_a_profile_is_fed_as_it_is() -> None:
    assert fed_shapes((MASK,), {"mask": np.ones((2, 977), np.float32)}, {}) == {"mask": (977,)}


@given(rows=st.integers(1, 50), step=st.integers(1, 60))
def test_batches_lose_and_repeat_nothing(rows: int, step: int) -> None:
    array = np.arange(rows)
    pieces = [piece["x"] for piece in batches({"x": array}, rows, step)]
    assert all(len(piece) == step for piece in pieces[:-1])
    np.testing.assert_array_equal(np.concatenate(pieces), array)

"""The simulated cameras obey their own physics, and nobody changes them unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from examples.fashion.cameras import (
    CAMERA_DIGEST,
    CAMERAS,
    DECLARED_MARGIN,
    expected_statistics,
    photograph,
    sense,
)
from examples.fashion.data import originals

FROZEN = "sha256:14881e9399d2e43ee94216058106d5ca07eba0543ab084a47c81a68b0cccad00"


def grey(level: int, images: int = 1) -> np.ndarray:
    return np.full((images, 28, 28), level, np.uint8)


def through(scenes: np.ndarray, seed: int = 0, **changes: float) -> np.ndarray:
    """An ideal sensor in clean air, but for `changes`."""
    per_image = np.ones((len(scenes), 1, 1))
    settings = {"exposure": 1.0, "transmission": 1.0, "air_light": 1.0, "full_well": 1e9, "read_noise": 0.0, **changes}
    return sense(
        scenes,
        np.random.default_rng(seed),
        exposure=settings["exposure"] * per_image,
        transmission=settings["transmission"] * per_image,
        air_light=settings["air_light"],
        full_well=settings["full_well"],
        read_noise=settings["read_noise"],
    )


def test_the_parameters_are_those_that_were_frozen_before_any_engine_was_measured():
    assert CAMERA_DIGEST == FROZEN
    assert list(CAMERAS) == ["na", "eu", "de", "sea", "jp", "br", "in", "me", "hk"]


def test_a_camera_cannot_be_changed():
    with pytest.raises(ValidationError):
        CAMERAS["eu"].full_well = 1.0
    with pytest.raises(TypeError):
        CAMERAS["eu"] = CAMERAS["na"]


@given(level=st.integers(0, 255))
@settings(max_examples=30)
def test_an_ideal_sensor_in_clean_air_reads_the_scene(level):
    assert np.array_equal(through(grey(level)), grey(level))


@given(level=st.integers(0, 255), exposure=st.floats(0.1, 3.0))
@settings(max_examples=30)
def test_exposure_is_a_gain_that_clips_at_white(level, exposure):
    assert through(grey(level), exposure=exposure) == pytest.approx(min(255.0, level * exposure), abs=0.6)


@given(level=st.integers(0, 255), transmission=st.floats(0.1, 1.0), air_light=st.floats(0.1, 1.0))
@settings(max_examples=30)
def test_haze_mixes_the_scene_with_the_air_light(level, transmission, air_light):
    expected = level * transmission + 255 * air_light * (1 - transmission)
    assert through(grey(level), transmission=transmission, air_light=air_light) == pytest.approx(expected, abs=0.6)


@given(level=st.integers(60, 180), full_well=st.floats(500, 5000))
@settings(max_examples=20)
def test_shot_noise_grows_with_the_root_of_the_light(level, full_well):
    electrons = level / 255 * full_well
    expected = np.sqrt(electrons) * 255 / full_well
    # Rounding to whole levels adds 1/12 to the variance.
    assert through(grey(level, 20), full_well=full_well).std() == pytest.approx(np.hypot(expected, 12**-0.5), rel=0.08)


def test_read_noise_is_there_without_light():
    dark = through(grey(0, 50), full_well=1000, read_noise=20)
    # Half of a normal distribution: negative readings clip at black.
    assert dark.mean() == pytest.approx(20 * 255 / 1000 / np.sqrt(2 * np.pi), rel=0.08)


@pytest.mark.parametrize("region", CAMERAS)
def test_the_same_generator_gives_the_same_pictures(region):
    scenes = originals("test").images[:20]
    first, again, other = (photograph(scenes, CAMERAS[region], np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.dtype == np.uint8
    assert first.shape == scenes.shape
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("region", CAMERAS)
def test_declared_bounds_are_the_stated_margin_around_the_physics(region):
    camera = CAMERAS[region]
    histogram = np.bincount(originals("train").images.ravel(), minlength=256)
    for bounds, value in zip(
        (camera.declared.mean, camera.declared.std), expected_statistics(camera, histogram), strict=True
    ):
        assert bounds == pytest.approx((value * (1 - DECLARED_MARGIN), value * (1 + DECLARED_MARGIN)), abs=1)


@pytest.mark.parametrize("region", CAMERAS)
def test_integrated_statistics_match_drawn_ones(region):
    scenes = originals("train")
    drawn = photograph(scenes.images[::3], CAMERAS[region], np.random.default_rng(11))
    histogram = np.bincount(scenes.images.ravel(), minlength=256)
    assert expected_statistics(CAMERAS[region], histogram) == pytest.approx((drawn.mean(), drawn.std()), rel=0.04)

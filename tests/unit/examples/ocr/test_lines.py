"""The simulated lines look as their parameters say, and nobody changes them unnoticed."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from examples.ocr import packages
from examples.ocr.lines import HEIGHT, NOTHING, STYLE_DIGEST, STYLES, draw, page
from examples.ocr.metrics import characters
from examples.ocr.texts import WRITERS, different
from regiolect.errors import InvalidModelSpec

FROZEN = "sha256:28ca3b9615174f1403c9d89c096387e4361dfb84cf755d996312f37ff962a849"


def lines(style, count=20, seed=0):
    stream = different(WRITERS[style.texts], np.random.default_rng(seed))
    return [next(stream) for _ in range(count)]


def test_the_parameters_are_those_that_were_frozen():
    assert STYLE_DIGEST == FROZEN
    assert list(STYLES) == ["na", "eu", "de", "sea", "jp", "br", "in", "me", "hk"]


def test_a_style_cannot_be_changed():
    with pytest.raises(ValidationError):
        STYLES["eu"].noise = 0.0
    with pytest.raises(TypeError):
        STYLES["eu"] = STYLES["na"]


@pytest.mark.parametrize("region", STYLES)
def test_the_network_knows_every_character_that_is_written(region):
    assert set("".join(lines(STYLES[region], 500))) <= set(characters())


@pytest.mark.parametrize("region", STYLES)
def test_the_same_generator_gives_the_same_lines(region):
    style = STYLES[region]
    first, again, other = (page(lines(style), style, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first.dtype == np.uint8
    assert first.shape == (20, 3, HEIGHT, style.width)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("region", STYLES)
def test_right_of_a_line_there_is_nothing(region):
    style = STYLES[region]
    text = lines(style, 1)[0]
    line = draw(text, style, np.random.default_rng(1))
    image = page([text], style, np.random.default_rng(1))[0]
    assert line.shape[2] <= style.width
    assert np.array_equal(image[:, :, : line.shape[2]], line)
    assert (image[:, :, line.shape[2] :] == NOTHING).all()


def test_a_line_that_would_be_too_wide_is_set_in_smaller_type():
    style = STYLES["na"]
    line = draw("0123456789" * 3, style, np.random.default_rng(0))
    assert style.width * 0.9 < line.shape[2] <= style.width


def test_without_blur_and_noise_a_line_lies_between_ink_and_paper():
    plain = STYLES["de"].model_copy(update={"blur": (0, 0), "noise": 0, "ink": (20, 20), "paper": (200, 200)})
    line = draw("8", plain, np.random.default_rng(0))
    assert (line.min(), line.max()) == (20, 200)


def test_noise_and_channels_are_as_stated():
    noisy = STYLES["de"].model_copy(update={"noise": 10, "ink": (120, 120), "paper": (120, 120)})
    line = draw("000000", noisy, np.random.default_rng(0)).astype(float)
    assert line.std() == pytest.approx(10, rel=0.05)
    assert abs(np.corrcoef(line[0].ravel(), line[1].ravel())[0, 1]) < 0.1


def test_a_missing_package_is_told_with_what_to_install(monkeypatch):
    monkeypatch.setitem(packages._FONTS, "Roboto", ("regiolect_has_no_such_package", "x.ttf"))
    with pytest.raises(InvalidModelSpec, match=r"regiolect\[ocr\]"):
        packages.font_file("Roboto")

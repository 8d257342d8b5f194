"""Nine SIMULATED regional cameras: what one garment looks like where the light, the air and the sensor differ.

No picture was taken anywhere. A camera turns a clean image into the one that its sensor would read:

    radiance  = scene * t + A * (1 - t)         haze: transmission t, air light A (Koschmieder's law)
    signal    = exposure * radiance             share of the full well, per pixel
    electrons = Poisson(signal * full_well) + Normal(0, read_noise)
    pixel     = round(255 * clip(electrons / full_well, 0, 1))

The exposure (log-uniform) and the transmission (uniform) are drawn once per image, the noise once per pixel.
The parameters are frozen: they were written down before any engine was measured on them, and CAMERA_DIGEST tells
whether they still are what they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import PositiveFloat

from regiolect.contracts import Contract, DeclaredStatistics, RegionId
from regiolect.integrity import digest_of

WHITE = 255
DECLARED_MARGIN = 0.15
"""Declared bounds stand this share below and above what `expected_statistics` says, rounded to whole levels."""

SIMULATION = 1
"""Version of the formulas and of the order of random draws; raise it when either changes."""


class Camera(Contract):
    """One simulated camera and what its region declares of the images.

    Attributes:
        scene: the conditions that the parameters stand for.
        exposure: smallest and largest linear gain; 1 maps the scene's white to the full well.
        transmission: smallest and largest share of the scene's light that gets through the air.
        air_light: radiance of the haze itself, 1 being the scene's white.
        full_well: electrons at pixel value 255; fewer mean more shot noise.
        read_noise: standard deviation in electrons.
        declared: bounds of mean and standard deviation over all pixels of a set, in levels of 0 to 255.
    """

    region: RegionId
    scene: str
    exposure: tuple[PositiveFloat, PositiveFloat]
    transmission: tuple[PositiveFloat, PositiveFloat]
    air_light: PositiveFloat
    full_well: PositiveFloat
    read_noise: PositiveFloat
    declared: DeclaredStatistics


def _camera(
    region: str,
    scene: str,
    *,
    exposure: tuple[float, float],
    transmission: tuple[float, float],
    air_light: float,
    full_well: float,
    read_noise: float,
    mean: tuple[float, float],
    std: tuple[float, float],
) -> Camera:
    return Camera(
        region=region,
        scene=scene,
        exposure=exposure,
        transmission=transmission,
        air_light=air_light,
        full_well=full_well,
        read_noise=read_noise,
        declared=DeclaredStatistics(mean=mean, std=std),
    )


_TABLE = (
    _camera(
        "na",
        "clear daylight",
        exposure=(0.75, 1.3),
        transmission=(0.94, 1.0),
        air_light=0.8,
        full_well=9000,
        read_noise=5,
        mean=(64, 88),
        std=(74, 101),
    ),
    _camera(
        "eu",
        "overcast, moderate light",
        exposure=(0.55, 1.0),
        transmission=(0.85, 0.97),
        air_light=0.6,
        full_well=7000,
        read_noise=6,
        mean=(51, 70),
        std=(54, 74),
    ),
    _camera(
        "de",
        "overcast, low winter sun",
        exposure=(0.45, 0.85),
        transmission=(0.82, 0.95),
        air_light=0.55,
        full_well=7000,
        read_noise=6,
        mean=(43, 59),
        std=(44, 60),
    ),
    _camera(
        "sea",
        "bright, humid haze",
        exposure=(0.8, 1.3),
        transmission=(0.5, 0.8),
        air_light=0.8,
        full_well=8000,
        read_noise=6,
        mean=(103, 141),
        std=(54, 74),
    ),
    _camera(
        "jp",
        "city street in the evening, lit shops",
        exposure=(0.35, 0.8),
        transmission=(0.92, 1.0),
        air_light=0.4,
        full_well=4000,
        read_noise=7,
        mean=(34, 47),
        std=(42, 57),
    ),
    _camera(
        "br",
        "high sun, thin coastal haze",
        exposure=(0.9, 1.5),
        transmission=(0.85, 0.97),
        air_light=0.9,
        full_well=8000,
        read_noise=5,
        mean=(83, 114),
        std=(77, 106),
    ),
    _camera(
        "in",
        "sun and shade in one street, dust haze",
        exposure=(0.4, 1.5),
        transmission=(0.6, 0.88),
        air_light=0.65,
        full_well=6000,
        read_noise=7,
        mean=(67, 92),
        std=(55, 75),
    ),
    _camera(
        "me",
        "desert glare, dry air",
        exposure=(1.1, 1.8),
        transmission=(0.9, 0.98),
        air_light=1.0,
        full_well=9000,
        read_noise=5,
        mean=(90, 123),
        std=(86, 117),
    ),
    _camera(
        "hk",
        "night market: little light, a noisy sensor",
        exposure=(0.12, 0.35),
        transmission=(0.88, 0.98),
        air_light=0.3,
        full_well=1200,
        read_noise=9,
        mean=(13, 19),
        std=(16, 23),
    ),
)
CAMERAS: Mapping[str, Camera] = MappingProxyType({camera.region: camera for camera in _TABLE})
CAMERA_DIGEST = digest_of([camera.model_dump(mode="json") for camera in _TABLE])


def sense(
    scenes: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    exposure: NDArray[Any],
    transmission: NDArray[Any],
    air_light: NDArray[Any] | float,
    full_well: NDArray[Any] | float,
    read_noise: NDArray[Any] | float,
) -> NDArray[np.uint8]:
    """What a sensor reads of clean images.

    Args:
        scenes: clean images of shape (n, height, width), 0 to 255.
        rng: source of the noise.
        exposure, transmission: one value per image, shape (n, 1, 1).
        air_light, full_well, read_noise: one value, or one per image, shape (n, 1, 1).

    Returns:
        Images of the same shape.
    """
    haze = air_light * (1 - transmission)
    # One multiplication and one addition per pixel: everything else is per image.
    expected = scenes * (exposure * full_well * transmission / WHITE) + exposure * full_well * haze
    electrons = rng.poisson(expected) + read_noise * rng.standard_normal(expected.shape, dtype=np.float32)
    pixels: NDArray[np.uint8] = np.rint(np.clip(electrons * (WHITE / full_well), 0, WHITE)).astype(np.uint8)
    return pixels


def photograph(scenes: NDArray[np.uint8], camera: Camera, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Clean images of shape (n, height, width) through one camera; the draws follow `rng` alone."""
    per_image = (len(scenes), 1, 1)
    return sense(
        scenes,
        rng,
        exposure=np.exp(rng.uniform(math.log(camera.exposure[0]), math.log(camera.exposure[1]), per_image)),
        transmission=rng.uniform(*camera.transmission, per_image),
        air_light=camera.air_light,
        full_well=camera.full_well,
        read_noise=camera.read_noise,
    )


def expected_statistics(camera: Camera, histogram: NDArray[Any]) -> tuple[float, float]:
    """Mean and standard deviation of a camera's pixels, by integration instead of by drawing.

    Args:
        camera: the parameters.
        histogram: counts of clean pixel values 0 to 255 over many images.

    Returns:
        Mean and standard deviation in levels of 0 to 255. Shot noise is taken as normal, rounding is left out.
    """
    share = (np.arange(32) + 0.5) / 32
    exposure = camera.exposure[0] * (camera.exposure[1] / camera.exposure[0]) ** share[:, None, None]
    transmission = camera.transmission[0] + (camera.transmission[1] - camera.transmission[0]) * share[None, :, None]
    scene = np.arange(WHITE + 1)[None, None, :] / WHITE
    signal = exposure * (scene * transmission + camera.air_light * (1 - transmission))
    noise = np.sqrt(signal * camera.full_well + camera.read_noise**2) / camera.full_well
    weight = np.asarray(histogram, np.float64) / np.sum(histogram) / share.size**2
    first = second = 0.0
    points, shares = np.polynomial.hermite_e.hermegauss(15)
    for point, part in zip(points, shares / shares.sum(), strict=True):
        pixel = WHITE * np.clip(signal + point * noise, 0, 1)
        first += part * float(np.sum(weight * pixel))
        second += part * float(np.sum(weight * pixel**2))
    return first, math.sqrt(second - first**2)

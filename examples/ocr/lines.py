"""Nine SIMULATED regional kinds of text lines: what they look like where documents, type and scanners differ.

No line was photographed anywhere. A line is drawn in black on white, then made what a scanner would read:

    line  = paper + (ink - paper) * coverage       coverage of a pixel by the glyphs, 0 to 1
    seen  = line blurred with a Gaussian of `blur` pixels
    pixel = round(clip(seen + Normal(0, noise), 0, 255)), each channel with noise of its own

Type size, place, ink, paper and blur are drawn once per line, the noise once per pixel and channel. The parameters are
frozen: they were written down before any engine but the FP32 network was measured on them, and STYLE_DIGEST tells
whether they still are what they were.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, NonNegativeFloat, PositiveInt

from examples.ocr.packages import font_file
from regiolect.contracts import Contract, DeclaredStatistics, RegionId
from regiolect.integrity import digest_of

if TYPE_CHECKING:
    from PIL.ImageFont import FreeTypeFont

HEIGHT = 48
NOTHING = 128
"""Raw value to the right of a line. The model was trained with zeros there, which lie between 127 and 128."""

SIMULATION = 1
"""Version of the formulas and of the order of random draws; raise it when either changes."""

_MARGIN = 6
_Range = tuple[NonNegativeFloat, NonNegativeFloat]


class Style(Contract):
    """How one region's lines look, and what the region declares of its images.

    Attributes:
        texts: what they say, a key of `examples.ocr.texts.WRITERS`.
        fonts: drawn from, one per line.
        size: smallest and largest type size in pixels, of a line of 48.
        blur: smallest and largest standard deviation of the blur in pixels.
        noise: standard deviation in levels of 0 to 255.
        ink, paper: darkest and lightest level of the glyphs and of what is behind them.
        width: of every image of the region's sets; a line that would be wider is set in smaller type.
        declared: bounds of mean and standard deviation over all values of a set, in levels of 0 to 255.
    """

    region: RegionId
    texts: str
    fonts: Annotated[tuple[str, ...], Field(min_length=1)]
    size: tuple[PositiveInt, PositiveInt]
    blur: _Range
    noise: NonNegativeFloat
    ink: _Range
    paper: _Range
    width: PositiveInt
    declared: DeclaredStatistics


def _style(
    region: str,
    texts: str,
    *fonts: str,
    size: tuple[int, int],
    blur: tuple[float, float],
    noise: float,
    ink: tuple[float, float],
    paper: tuple[float, float],
    width: int,
    mean: tuple[float, float],
    std: tuple[float, float],
) -> Style:
    return Style(
        region=region,
        texts=texts,
        fonts=fonts,
        size=size,
        blur=blur,
        noise=noise,
        ink=ink,
        paper=paper,
        width=width,
        declared=DeclaredStatistics(mean=mean, std=std),
    )


_TABLE = (
    _style(
        "na",
        "addresses",
        "Roboto",
        size=(26, 34),
        blur=(0.6, 1.8),
        noise=10,
        ink=(10, 60),
        paper=(200, 250),
        width=320,
        mean=(150, 204),
        std=(44, 59),
    ),
    _style(
        "eu",
        "invoice numbers",
        "Source Serif Pro",
        size=(26, 34),
        blur=(0.8, 2.0),
        noise=12,
        ink=(20, 80),
        paper=(190, 240),
        width=256,
        mean=(155, 210),
        std=(36, 49),
    ),
    _style(
        "de",
        "meter readings",
        "DejaVu Sans Mono",
        size=(26, 31),
        blur=(0.8, 1.9),
        noise=12,
        ink=(20, 70),
        paper=(150, 210),
        width=160,
        mean=(138, 186),
        std=(29, 40),
    ),
    _style(
        "sea",
        "price tags",
        "Roboto",
        "DejaVu Sans",
        size=(26, 34),
        blur=(0.6, 2.2),
        noise=14,
        ink=(40, 110),
        paper=(150, 220),
        width=192,
        mean=(141, 191),
        std=(30, 40),
    ),
    _style(
        "jp",
        "addresses in kanji",
        "IPAexGothic",
        size=(24, 30),
        blur=(0.3, 0.9),
        noise=6,
        ink=(10, 60),
        paper=(200, 250),
        width=320,
        mean=(159, 216),
        std=(46, 62),
    ),
    _style(
        "br",
        "number plates and tax numbers",
        "DejaVu Sans",
        size=(26, 32),
        blur=(0.6, 1.8),
        noise=10,
        ink=(10, 60),
        paper=(180, 240),
        width=256,
        mean=(147, 199),
        std=(39, 53),
    ),
    _style(
        "in",
        "vehicle registrations",
        "DejaVu Serif",
        size=(24, 30),
        blur=(0.5, 1.6),
        noise=12,
        ink=(20, 90),
        paper=(150, 240),
        width=256,
        mean=(145, 196),
        std=(35, 47),
    ),
    _style(
        "me",
        "amounts",
        "Source Serif Pro",
        "DejaVu Sans",
        size=(26, 32),
        blur=(0.5, 1.9),
        noise=8,
        ink=(30, 90),
        paper=(190, 250),
        width=272,
        mean=(153, 207),
        std=(40, 54),
    ),
    _style(
        "hk",
        "stock quotes",
        "Roboto Light",
        size=(22, 28),
        blur=(0.4, 1.0),
        noise=8,
        ink=(180, 250),
        paper=(5, 40),
        width=320,
        mean=(42, 57),
        std=(40, 54),
    ),
)
STYLES: Mapping[str, Style] = MappingProxyType({style.region: style for style in _TABLE})
STYLE_DIGEST = digest_of([style.model_dump(mode="json") for style in _TABLE])


def draw(text: str, style: Style, rng: np.random.Generator) -> NDArray[np.uint8]:
    """One line as BGR image of shape (3, 48, its own width, at most `style.width`); the draws follow `rng` alone."""
    from PIL import Image, ImageDraw, ImageFilter

    name = style.fonts[int(rng.integers(len(style.fonts)))]
    size = int(rng.integers(style.size[0], style.size[1] + 1))
    shift, blur = rng.uniform(-2, 2), rng.uniform(*style.blur)
    ink, paper = rng.uniform(*style.ink), rng.uniform(*style.paper)
    room = style.width - 2 * _MARGIN
    while (length := _font(name, size).getlength(text)) > room:
        size -= 1
    width = math.ceil(length) + 2 * _MARGIN
    glyphs = Image.new("L", (width, HEIGHT), 0)
    place = (_MARGIN, HEIGHT / 2 + shift)
    ImageDraw.Draw(glyphs).text(place, text, fill=255, font=_font(name, size), anchor="lm")
    coverage = np.asarray(glyphs.filter(ImageFilter.GaussianBlur(blur)), np.float32) / 255
    seen = paper + (ink - paper) * coverage
    noisy = seen + style.noise * rng.standard_normal((3, HEIGHT, width), dtype=np.float32)
    return np.rint(np.clip(noisy, 0, 255)).astype(np.uint8)


def page(texts: list[str], style: Style, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Lines of shape (n, 3, 48, style.width), each filled up with `NOTHING` on its right."""
    images = np.full((len(texts), 3, HEIGHT, style.width), NOTHING, np.uint8)
    for image, text in zip(images, texts, strict=True):
        line = draw(text, style, rng)
        image[:, :, : line.shape[2]] = line
    return images


@functools.cache
def _font(name: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    # The basic layout is the same wherever FreeType is; the other one depends on a library that may be missing.
    return ImageFont.truetype(str(font_file(name)), size, layout_engine=ImageFont.Layout.BASIC)

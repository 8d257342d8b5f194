"""The networks of benchmarks/methods.py: what they look like, what they are trained on, what they are asked.

Five are trained here from a seed, on the garments of examples/fashion (6,000 images to train and calibrate on, 10,000
to score) or on lines of digits that are drawn; two are those of the examples, as they are shipped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from examples.fashion import MODEL as FASHION
from examples.fashion.data import originals
from examples.ocr import MODEL as OCR
from examples.ocr.packages import font_file
from regiolect.contracts import DimensionProfile, Preprocessing, Split, TensorSpec
from regiolect.data import preprocess
from regiolect.model import Metric, ModelSpec

CALIBRATION, SCORED = 256, 4_000
BATCH = 64
UNIT = Preprocessing(raw_dtype="uint8", scale=1 / 255)
CENTRED = Preprocessing(raw_dtype="uint8", scale=1 / 255, mean=(0.5,), std=(0.5,))
DIGITS, PITCH, HEIGHT = 6, 16, 20
_FONTS = ("DejaVu Sans", "DejaVu Sans Mono", "DejaVu Serif", "Roboto")

Sets = tuple[NDArray[np.uint8], NDArray[Any]]
"""Raw inputs (n, ...) and their targets."""


@dataclass(frozen=True)
class Task:
    """A network to quantize: its spec, raw samples to calibrate on, others to score, and how answers are scored."""

    spec: ModelSpec
    calibration: NDArray[np.uint8]
    scored: Sets
    score: Metric
    shapes: Mapping[str, DimensionProfile]


@dataclass(frozen=True)
class Trained:
    """A network that is trained from a seed on `draw(part, count, rng)`, where part is "train" or "test"."""

    network: Callable[[], nn.Module]
    draw: Callable[[str, int, np.random.Generator], Sets]
    preprocessing: Preprocessing
    epochs: int

    def task(self, seed: int, folder: Path) -> Task:
        """Train, and draw what is calibrated on and scored. Writes the weights into the folder."""
        weights = folder / f"weights-{seed}.safetensors"
        save_file(self._trained(seed).state_dict(), weights)
        rng = np.random.default_rng((seed, 1))
        calibration, _ = self.draw("train", CALIBRATION, rng)
        spec = ModelSpec(
            name="trained",
            loader=partial(_loaded, self.network, weights),
            sources=(weights,),
            inputs=(TensorSpec(name="image", shape=("batch", *calibration.shape[1:])),),
            outputs=("logits",),
            metrics={"accuracy": all_right},
            data={},
            preprocessing=self.preprocessing,
            parity_tolerance=1e-3,
        )
        return Task(spec, calibration, self.draw("test", SCORED, rng), all_right, {})

    def _trained(self, seed: int) -> nn.Module:
        rng = np.random.default_rng((seed, 0))
        # Sums of one thread do not depend on how many there are.
        torch.set_num_threads(1)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = self.network()
            steps = self.epochs * (len(originals("train").labels) // BATCH)
            optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.02)
            schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.25)
            for _ in range(self.epochs):
                raw, targets = self.draw("train", steps // self.epochs * BATCH, rng)
                for at in range(0, len(raw), BATCH):
                    inputs = torch.from_numpy(preprocess(raw[at : at + BATCH], self.preprocessing))
                    wanted = torch.from_numpy(targets[at : at + BATCH])
                    loss = nn.functional.cross_entropy(network(inputs).flatten(0, -2), wanted.flatten())
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()
                    optimizer.step()
                    schedule.step()
        return network.eval()


def all_right(outputs: Mapping[str, NDArray[Any]], targets: NDArray[Any]) -> NDArray[np.bool_]:
    """Whether the largest logit is the target, at every place of a sample that has several."""
    logits = next(iter(outputs.values()))
    right = (logits.argmax(axis=-1) == targets) & ~np.isnan(logits).any(axis=-1)
    return np.asarray(right.reshape(len(right), -1).all(axis=1))


def _loaded(network: Callable[[], nn.Module], weights: Path) -> nn.Module:
    made = network()
    made.load_state_dict(load_file(weights))
    return made.eval()


def garments(part: str, count: int, rng: np.random.Generator) -> Sets:
    """Images uint8 (count, 1, 28, 28), each at most once, and labels."""
    pool = originals(part)
    chosen = rng.permutation(len(pool.labels))[:count]
    return pool.images[chosen][:, None], pool.labels[chosen]


def small_garments(part: str, count: int, rng: np.random.Generator) -> Sets:
    """The same at half the size, anywhere in 32 x 32 pixels of black: uint8 (count, 1, 32, 32)."""
    images, labels = garments(part, count, rng)
    halves = images.reshape(-1, 14, 2, 14, 2).mean(axis=(2, 4)).astype(np.uint8)
    seen = np.zeros((len(halves), 1, 32, 32), np.uint8)
    for image, half, (row, column) in zip(seen, halves, rng.integers(0, 19, (len(halves), 2)), strict=True):
        image[0, row : row + 14, column : column + 14] = half
    return seen, labels


def lines(_: str, count: int, rng: np.random.Generator) -> Sets:
    """Six digits each, drawn dark on white, slightly blurred: uint8 (count, 1, 20, 96), and what they are."""
    digits = rng.integers(0, 10, (count, DIGITS))
    return np.stack([_line(row, rng) for row in digits])[:, None], digits


def _line(digits: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
    font, ink = _font(str(rng.choice(_FONTS)), int(rng.integers(11, 15))), int(rng.integers(0, 130))
    image = Image.new("L", (DIGITS * PITCH, HEIGHT), 255)
    drawing = ImageDraw.Draw(image)
    for place, digit in enumerate(digits):
        left, top = rng.integers(0, 6), rng.integers(0, 6)
        drawing.text((place * PITCH + int(left), int(top)), str(digit), fill=ink, font=font)
    return np.asarray(image.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.6)))))


@cache
def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(font_file(name), size)


def plain() -> nn.Module:
    """Convolutions with biases, ReLU and pooling."""
    layers: list[nn.Module] = []
    for before, after in ((1, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 16, 64), nn.ReLU(), nn.Linear(64, 10))


def mobile() -> nn.Module:
    """Depthwise and pointwise convolutions. Source: Howard et al., "MobileNets", 2017; ReLU6 as there."""
    layers: list[nn.Module] = [*_normalized(nn.Conv2d(1, 32, 3, 2, 1, bias=False)), nn.ReLU6()]
    for before, after, stride in ((32, 48, 1), (48, 64, 2), (64, 64, 1), (64, 96, 1)):
        layers += [*_normalized(nn.Conv2d(before, before, 3, stride, 1, groups=before, bias=False)), nn.ReLU6()]
        layers += [*_normalized(nn.Conv2d(before, after, 1, bias=False)), nn.ReLU6()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, 10))


def _normalized(convolution: nn.Conv2d) -> tuple[nn.Module, nn.Module]:
    return convolution, nn.BatchNorm2d(convolution.out_channels)


class Encoder(nn.Module):
    """A transformer encoder on the 49 patches of a garment. Source: Dosovitskiy et al., "An Image is Worth 16x16
    Words", 2021; the mean of all patches in place of a class token."""

    def __init__(self, width: int = 48, layers: int = 2) -> None:
        super().__init__()
        self.patches = nn.Conv2d(1, width, 4, 4)
        self.places = nn.Parameter(torch.zeros(49, width))
        self.layers = nn.Sequential(*(EncoderLayer(width) for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 10))

    def forward(self, image: Tensor) -> Tensor:
        """Maps (n, 1, 28, 28) to (n, 10)."""
        tokens = self.patches(image).flatten(2).transpose(1, 2) + self.places
        logits: Tensor = self.head(self.layers(tokens).mean(dim=1))
        return logits


class EncoderLayer(nn.Module):
    """Attention of 4 heads and two products with GELU between them, each normalized before and added."""

    def __init__(self, width: int, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.before, self.between = nn.LayerNorm(width), nn.LayerNorm(width)
        self.keys, self.mixed = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.products = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Tensor) -> Tensor:
        """Maps (n, tokens, width) to the same."""
        split = self.keys(self.before(tokens)).unflatten(2, (3, self.heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1)
        tokens = tokens + self.mixed((weights @ value).transpose(1, 2).flatten(2))
        summed: Tensor = tokens + self.products(self.between(tokens))
        return summed


class LineReader(nn.Module):
    """Convolutions over a line, the last over its whole height: one answer for each digit's place."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((1, 16), (16, 32)):
            layers += [*_normalized(nn.Conv2d(before, after, 3, padding=1, bias=False)), nn.Hardswish()]
            layers += [nn.MaxPool2d(2)]
        self.body = nn.Sequential(*layers, nn.Conv2d(32, 64, (5, 3), padding=(0, 1)), nn.Hardswish())
        self.head = nn.Conv2d(64, 10, (1, PITCH // 4), stride=(1, PITCH // 4))

    def forward(self, image: Tensor) -> Tensor:
        """Maps (n, 1, 20, 96) to (n, 6, 10)."""
        logits: Tensor = self.head(self.body(image)).squeeze(2).transpose(1, 2)
        return logits


def perceptron() -> nn.Module:
    """Three products with ReLU between them."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10)
    )


def shipped_residual(seed: int, _: Path) -> Task:
    """The network of examples/fashion, on clean images."""
    rng = np.random.default_rng((seed, 1))
    calibration, _labels = garments("train", CALIBRATION, rng)
    return Task(FASHION, calibration, garments("test", SCORED, rng), all_right, {})


def shipped_ocr(seed: int, _: Path, region: str = "na") -> Task:
    """The network of examples/ocr, on the lines of a region: 200 of them scored, for they are large."""
    samples, scored = (OCR.data[region].load(split) for split in (Split.CALIBRATION, Split.SELECTION))
    own = np.random.default_rng((seed, 1)).permutation(len(samples))[: CALIBRATION // 2]
    width = scored.inputs["x"].shape[3]
    shapes = {"width": DimensionProfile(min=width, opt=width, max=width)}
    taken = scored.take(slice(0, 200))
    return Task(OCR, samples.inputs["x"][own], (taken.inputs["x"], taken.targets), OCR.metrics["accuracy"], shapes)


Maker = Callable[[int, Path], Task]

TO_CHOOSE: Mapping[str, Maker] = {
    "plain CNN, mostly black images": Trained(plain, small_garments, UNIT, epochs=6).task,
    "residual CNN (examples/fashion)": shipped_residual,
    "depthwise CNN, ReLU6": Trained(mobile, garments, CENTRED, epochs=6).task,
    "transformer encoder": Trained(Encoder, garments, CENTRED, epochs=6).task,
    "line of digits, hard swish": Trained(LineReader, lines, CENTRED, epochs=3).task,
}
TO_REPORT: Mapping[str, Maker] = {
    "perceptron": Trained(perceptron, garments, UNIT, epochs=10).task,
    "PP-OCRv4, `na` (examples/ocr)": shipped_ocr,
}

"""The three sets of each region: invented texts, drawn on demand as the region's SIMULATED lines look.

A region writes one list of texts, none of them twice, and cuts it into its sets, so that no text is in two of them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import dataclass
from itertools import islice

import numpy as np

from examples.ocr.lines import SIMULATION, STYLES, Style, page
from examples.ocr.packages import font_digest
from examples.ocr.texts import WRITERS, different
from regiolect.contracts import DeclaredStatistics, RegionId, Split
from regiolect.data import Samples
from regiolect.integrity import digest_of

SEED = 20_230_807


@dataclass(frozen=True)
class Sizes:
    """Samples in each of a region's sets."""

    calibration: int = 256
    selection: int = 500
    gate: int = 2_000


# A limit of 0.1 points takes 4,742 samples if one line may be read worse than in FP32, 2,995 if none may.
SIZES = {"de": Sizes(gate=5_000)}


@dataclass(frozen=True)
class LineSource:
    """One region's samples; a `regiolect.data.RegionSource`.

    Sample ids read `ocr/<set>/<index>@<region>`; targets are the texts.
    """

    style: Style
    sizes: Sizes = Sizes()
    seed: int = SEED

    @property
    def region(self) -> RegionId:
        """The style's region."""
        return self.style.region

    @property
    def declared(self) -> DeclaredStatistics:
        """What the style's region says of its own pixels."""
        return self.style.declared

    @property
    def classes(self) -> None:
        """None: targets are texts."""
        return None

    def identity(self) -> str:
        """Digest of all that decides the samples.

        NumPy and Pillow are part of it: a release may draw other numbers, or other glyphs, from the same seed.
        """
        return digest_of(
            {
                "style": self.style.model_dump(mode="json"),
                "fonts": [font_digest(name) for name in self.style.fonts],
                "sizes": [self.sizes.calibration, self.sizes.selection, self.sizes.gate],
                "seed": self.seed,
                "simulation": SIMULATION,
                "numpy": np.__version__,
                "pillow": importlib.metadata.version("pillow"),
            }
        )

    def load(self, split: Split) -> Samples:
        """One set: input `x` uint8 (n, 3, 48, the style's width), targets text. The same on every call.

        Raises:
            InvalidModelSpec: a font is not installed.
        """
        texts = self._texts()[split]
        images = page(texts, self.style, self._generator(f"lines/{split.value}"))
        return Samples(
            ids=np.asarray([f"ocr/{split.value}/{index:05d}@{self.region}" for index in range(len(texts))]),
            regions=np.full(len(texts), self.region),
            inputs={"x": images},
            targets=np.asarray(texts),
        )

    def _texts(self) -> dict[Split, list[str]]:
        stream = different(WRITERS[self.style.texts], self._generator("texts"))
        return {split: list(islice(stream, getattr(self.sizes, split.value))) for split in Split}

    def _generator(self, purpose: str) -> np.random.Generator:
        # A stream for each purpose: what one set draws never depends on whether another was loaded before.
        name = f"{self.seed}/{self.region}/{purpose}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16], "big"))


def sources() -> dict[str, LineSource]:
    """Every region's source."""
    return {region: LineSource(style, SIZES.get(region, Sizes())) for region, style in STYLES.items()}

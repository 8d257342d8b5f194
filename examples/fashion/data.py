"""The three sets of each region: shipped images through the region's SIMULATED camera.

Calibration samples come from the shipped training images, selection and gate samples from the test images. Each
region shuffles both with a seed of its own, so regions see different images, and no image of a region's gate set is
in its selection set.
"""

from __future__ import annotations

import functools
import hashlib
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.fashion.cameras import CAMERAS, SIMULATION, Camera, photograph
from regiolect.contracts import DeclaredStatistics, RegionId, Split
from regiolect.data import Samples
from regiolect.errors import EmptyDataset, InvalidSamples
from regiolect.integrity import digest_file, digest_of

FOLDER = Path(__file__).parent / "data"
CLASSES = ("T-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")
SEED = 20_170_825


@dataclass(frozen=True)
class Originals:
    """Clean images: uint8 (n, 28, 28), int64 labels (n,), and each image's place in Fashion-MNIST's own file."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    index: NDArray[np.int64]


@dataclass(frozen=True)
class Sizes:
    """Samples in each of a region's sets."""

    calibration: int = 500
    selection: int = 1_000
    gate: int = 4_000


def originals(part: str, folder: Path = FOLDER) -> Originals:
    """The shipped images of `part`: "train" (6,000 of 60,000) or "test" (all 10,000). Read once, then remembered.

    Raises:
        EmptyDataset: the file is missing.
        InvalidSamples: the file is damaged.
    """
    return _read(*_version(folder / f"{part}.npz"))


@dataclass(frozen=True)
class FashionSource:
    """One region's samples; a `regiolect.data.RegionSource`.

    Sample ids read `fashion/<part>/<index in the original file>@<region>`.
    """

    camera: Camera
    sizes: Sizes = Sizes()
    seed: int = SEED
    folder: Path = FOLDER

    @property
    def region(self) -> RegionId:
        """The camera's region."""
        return self.camera.region

    @property
    def declared(self) -> DeclaredStatistics:
        """What the camera's region says of its own pixels."""
        return self.camera.declared

    @property
    def classes(self) -> int | None:
        """Ten: every set holds every garment."""
        return len(CLASSES)

    def identity(self) -> str:
        """Digest of all that decides the samples.

        NumPy is part of it: a release may draw other numbers from the same seed.
        """
        return digest_of(
            {
                "files": {part: _digest(*_version(self.folder / f"{part}.npz")) for part in ("train", "test")},
                "camera": self.camera.model_dump(mode="json"),
                "sizes": [self.sizes.calibration, self.sizes.selection, self.sizes.gate],
                "seed": self.seed,
                "simulation": SIMULATION,
                "numpy": np.__version__,
            }
        )

    def load(self, split: Split) -> Samples:
        """One set: input `image` uint8 (n, 1, 28, 28), targets int64 labels. The same on every call.

        Raises:
            EmptyDataset: the shipped file is missing or holds too few images.
            InvalidSamples: it is damaged.
        """
        part = "train" if split is Split.CALIBRATION else "test"
        pool = originals(part, self.folder)
        first = self.sizes.selection if split is Split.GATE else 0
        last = first + getattr(self.sizes, split.value)
        if last > len(pool.labels):
            raise EmptyDataset(
                expected=f"{last} {part} images for the {split.value} set of region {self.region!r}",
                found=f"{len(pool.labels)} in {self.folder / f'{part}.npz'}",
                remedy="ask for smaller sets, or write the file again: python -m examples.fashion.prepare",
            )
        chosen = self._generator(f"order/{part}").permutation(len(pool.labels))[first:last]
        images = photograph(pool.images[chosen], self.camera, self._generator(f"camera/{split.value}"))
        return Samples(
            ids=np.asarray([f"fashion/{part}/{index:05d}@{self.region}" for index in pool.index[chosen]]),
            regions=np.full(len(chosen), self.region),
            inputs={"image": images[:, None]},
            targets=pool.labels[chosen],
        )

    def _generator(self, purpose: str) -> np.random.Generator:
        # A stream for each purpose: what one set draws never depends on whether another was loaded before.
        name = f"{self.seed}/{self.region}/{purpose}".encode()
        return np.random.default_rng(int.from_bytes(hashlib.sha256(name).digest()[:16], "big"))


def sources() -> dict[str, FashionSource]:
    """Every region's source."""
    return {region: FashionSource(camera) for region, camera in CAMERAS.items()}


def _version(path: Path) -> tuple[Path, int, int]:
    try:
        status = path.stat()
    except FileNotFoundError as error:
        raise EmptyDataset(
            expected=f"the example's images at {path}",
            found="no such file",
            remedy=f"restore it from the repository: git checkout -- {path}",
        ) from error
    return path, status.st_mtime_ns, status.st_size


# Both are keyed by the file's time and size as well, so that a replaced file is read anew.
@functools.lru_cache(maxsize=8)
def _digest(path: Path, _modified: int, _size: int) -> str:
    return digest_file(path)


@functools.lru_cache(maxsize=4)
def _read(path: Path, _modified: int, _size: int) -> Originals:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            images, labels, index = archive["images"], archive["labels"], archive["index"]
    except (ValueError, KeyError, OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise InvalidSamples(
            expected=f"arrays images, labels and index in {path}",
            found=f"{error} ({type(error).__name__})",
            remedy=f"restore the file from the repository: git checkout -- {path}",
        ) from error
    for array in (images, labels, index):
        array.setflags(write=False)
    return Originals(images=images, labels=labels.astype(np.int64), index=index.astype(np.int64))

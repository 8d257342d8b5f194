"""A region's samples: how a user hands them in, what is refused of missing sets, how they are kept and read back.

A `RegionSource` is what a user brings: three disjoint sets of labelled samples. `FolderSource` reads them from
`<folder>/calibration.npz`, `selection.npz` and `gate.npz`, as written by `save_samples`.
"""

from __future__ import annotations

import difflib
import io
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import DeclaredStatistics, Preprocessing, RegionId, SourceSet, Split
from regiolect.errors import EmptyDataset, InvalidSamples
from regiolect.host.files import cannot_read, open_file
from regiolect.integrity import digest_of, digest_source, write_atomic

# How the arrays of inputs and attributes are told from the others in a file.
_INPUT = "input:"
_ATTRIBUTE = "attribute:"
LABEL = "label"
"""What a sample's class is called among its attributes; no attribute may be called so."""


@dataclass(frozen=True)
class Samples:
    """Raw samples, before preprocessing; all arrays share their first dimension, n.

        >>> import numpy as np
        >>> samples = Samples(
        ...     ids=np.array(["eu-0", "eu-1", "eu-2"]),
        ...     regions=np.full(3, "eu"),
        ...     inputs={"image": np.zeros((3, 1, 16, 16), np.uint8)},
        ...     targets=np.array([7, 0, 7]),
        ...     attributes={"camera": np.array(["old", "new", "new"])},
        ... )
        >>> len(samples)
        3
        >>> samples.take(samples.column("camera") == "new").ids
        array(['eu-1', 'eu-2'], dtype='<U4')

    `save_samples(path, samples)` writes them where `FolderSource` reads them.

    Args:
        ids: text of shape (n,), unique in the three sets of a region.
        regions: text of shape (n,): the region that each sample comes from, as its source tells it.
        inputs: arrays of shape (n, ...) by the name of the model's input, of integers or floats of
            `Preprocessing.raw_dtype`, e.g. uint8 images of shape (n, channels, height, width).
        targets: array of shape (n, ...) that the metric compares outputs with, e.g. integer labels of shape (n,).
        attributes: text of shape (n,) by name, e.g. the device that a sample comes from; what a policy's
            `accuracy.slices` tells samples apart by.

    Raises:
        EmptyDataset: no samples, or no inputs.
        InvalidSamples: lengths differ, values are masked, ids or regions are not text, an input is neither integer nor
            float, or an attribute is no printable text for each sample.
    """

    ids: NDArray[np.str_]
    regions: NDArray[np.str_]
    inputs: Mapping[str, NDArray[Any]]
    targets: NDArray[Any]
    attributes: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.ids)
        if count == 0 or not self.inputs:
            raise EmptyDataset(
                expected="at least one sample with at least one input",
                found=f"{count} samples, {len(self.inputs)} inputs",
                remedy="check the path and the filter that select this region's samples",
            )
        for name, array in {
            "regions": self.regions,
            "targets": self.targets,
            **self.inputs,
            **self.attributes,
        }.items():
            if len(array) != count:
                raise InvalidSamples(
                    expected=f"{count} rows in {name!r}, one per id",
                    found=f"{len(array)}",
                    remedy="write ids, regions, inputs and targets from the same list of samples",
                )
            require_unmasked(name, array)
        require_unmasked("ids", self.ids)
        if self.ids.dtype.kind != "U" or self.regions.dtype.kind != "U":
            raise InvalidSamples(
                expected="ids and regions as text arrays",
                found=f"{self.ids.dtype} and {self.regions.dtype}",
                remedy="convert with numpy.asarray(values, dtype=str)",
            )
        for name, array in self.inputs.items():
            if array.dtype.kind not in "uif":
                raise InvalidSamples(
                    expected=f"input {name!r} as integers or floats",
                    found=str(array.dtype),
                    remedy="decode the samples to numeric arrays before saving them",
                )
        for name, array in self.attributes.items():
            _check_attribute(name, array, self.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, index: slice | NDArray[Any]) -> Samples:
        """The samples at `index`, in that order.

        Args:
            index: a slice, row numbers of any length, or True and False of shape (n,).

        Raises:
            EmptyDataset: it takes none.
        """
        return Samples(
            ids=self.ids[index],
            regions=self.regions[index],
            inputs={name: array[index] for name, array in self.inputs.items()},
            targets=self.targets[index],
            attributes={name: array[index] for name, array in self.attributes.items()},
        )

    def column(self, name: str) -> NDArray[np.str_]:
        """What samples are told apart by, as text of shape (n,): an attribute, or `label`, the class in `targets`.

        Raises:
            InvalidSamples: they carry no such attribute, or their targets are no labels.
        """
        if name != LABEL and name in self.attributes:
            return self.attributes[name]
        names = ", ".join(sorted(self.attributes)) or "none"
        if name != LABEL:
            near = difflib.get_close_matches(name, (LABEL, *self.attributes), n=1)
            raise InvalidSamples(
                expected=f"the attribute {name!r} on every sample, which the policy's accuracy.slices.by names",
                found=f"attributes: {names}",
                remedy=f"did you mean {near[0]!r}?"
                if near
                else f"hand it in as Samples.attributes[{name!r}], or take it out of the policy",
            )
        if self.targets.ndim != 1 or self.targets.dtype.kind not in "ui":
            raise InvalidSamples(
                expected=f"integer labels of shape ({len(self)},) as targets, to slice by {LABEL!r}",
                found=f"{self.targets.dtype} of shape {self.targets.shape}",
                remedy=f"name attributes in accuracy.slices.by instead of {LABEL!r}; these samples carry: {names}",
            )
        return self.targets.astype(np.str_)


def _check_attribute(name: str, array: NDArray[Any], ids: NDArray[np.str_]) -> None:
    problem = None
    if not name.isprintable() or not name.strip() or name == LABEL:
        problem = f"the name {name!r}"
    elif array.dtype.kind != "U" or array.ndim != 1:
        problem = f"{array.dtype} of shape {array.shape}"
    else:
        wrong = next((value for value in np.unique(array) if not value or not value.isprintable()), None)
        if wrong is not None:
            sample = ids[np.flatnonzero(array == wrong)[0]]
            problem = f"{'an empty value' if not wrong else repr(str(wrong))} for sample {str(sample)!r}"
    if problem is not None:
        raise InvalidSamples(
            expected=f"attribute {name!r} as one printable text for each sample, under a name other than {LABEL!r}",
            found=problem,
            remedy="convert with numpy.asarray(values, dtype=str), and give what is not known a name, e.g. 'unknown'",
        )


class RegionSource(Protocol):
    """What a user brings for one region."""

    @property
    def region(self) -> RegionId: ...

    @property
    def declared(self) -> DeclaredStatistics: ...

    @property
    def classes(self) -> int | None:
        """Number of classes, 0 to classes - 1, that each set must cover; None where targets are no labels."""

    def identity(self) -> str:
        """A digest that changes whenever the samples would; cheap, for `plan` asks it of every region."""

    def load(self, split: Split) -> Samples: ...


@dataclass(frozen=True)
class FolderSource:
    """Three .npz files in a folder of the user's."""

    region: RegionId
    folder: Path
    declared: DeclaredStatistics
    classes: int | None = None

    def identity(self) -> str:
        files = {split.value: digest_source(self._path(split)) for split in Split}
        return digest_of({"files": files, "declared": self.declared.model_dump(), "classes": self.classes})

    def sets(self) -> Mapping[Split, SourceSet]:
        """Each set's file, so that a change can be told set by set; nothing of a subclass that has an identity of its
        own, for what its sets are is known when they are loaded.

        Raises:
            EmptyDataset: a file is missing.
        """
        if type(self).identity is not FolderSource.identity:
            return {}
        paths = {split: self._path(split) for split in Split}
        return {split: SourceSet(digest=digest_source(path), samples=_count(path)) for split, path in paths.items()}

    def load(self, split: Split) -> Samples:
        return read_samples(self._path(split))

    def _path(self, split: Split) -> Path:
        path = self.folder / f"{split.value}.npz"
        if not path.is_file():
            raise EmptyDataset(
                expected=f"the {split.value} set of region {self.region!r} at {path}",
                found="no such file",
                remedy="write it with regiolect.data.save_samples(path, samples)",
            )
        return path


def npz_bytes(arrays: Mapping[str, NDArray[Any]], *, compressed: bool = False) -> bytes:
    """An .npz, the same bytes for the same arrays: entries sorted, timestamps fixed, no pickle."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as archive:
        for name in sorted(arrays):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(arrays[name]), allow_pickle=False)
            # Of an entry that is described like this, the archive's own setting does not count.
            archive.writestr(
                zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0)),
                entry.getvalue(),
                compress_type=archive.compression,
            )
    return buffer.getvalue()


def samples_to_bytes(samples: Samples) -> bytes:
    """An uncompressed .npz, the same bytes for the same samples."""
    return npz_bytes(
        {
            "ids": samples.ids,
            "regions": samples.regions,
            "targets": samples.targets,
            **{f"{_INPUT}{name}": array for name, array in samples.inputs.items()},
            **{f"{_ATTRIBUTE}{name}": array for name, array in samples.attributes.items()},
        }
    )


def save_samples(path: Path, samples: Samples) -> None:
    """Write samples to `path`, whole or not at all."""
    write_atomic(path, samples_to_bytes(samples))


def read_samples(path: Path) -> Samples:
    """Read what `save_samples` wrote.

    Raises:
        InvalidSamples: not such a file, or truncated; pickled objects are refused.
    """
    with _readable(path), open_file(path) as file, np.load(file, allow_pickle=False) as archive:
        return _assembled({name: archive[name] for name in archive.files})


@dataclass(frozen=True)
class SampleIndex:
    """What there is to know of a set without its values: ids and region tags, one a sample, and the inputs' names."""

    ids: NDArray[np.str_]
    regions: NDArray[np.str_]
    inputs: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)


def read_index(path: Path) -> SampleIndex:
    """What `save_samples` wrote, without inputs and targets.

    Raises:
        InvalidSamples: not such a file, or truncated.
    """
    with _readable(path), open_file(path) as file, np.load(file, allow_pickle=False) as archive:
        ids, regions = archive["ids"], archive["regions"]
        names = sorted(name.removeprefix(_INPUT) for name in archive.files if name.startswith(_INPUT))
        if not len(ids) == len(regions):
            raise ValueError(f"{len(ids)} ids and {len(regions)} regions")
        return SampleIndex(ids, regions, tuple(names))


def _count(path: Path) -> int | None:
    """Samples in a file, by the header of its ids alone; None for one that is damaged, which loading refuses."""
    try:
        with _readable(path), open_file(path) as file, zipfile.ZipFile(file) as archive, archive.open("ids.npy") as ids:
            return _Rows.of(ids).shape[0]
    except InvalidSamples:
        return None


def read_parts(path: Path, bounds: Sequence[tuple[int, int]]) -> Iterator[Samples]:
    """Rows `start` to `stop` of what `save_samples` wrote, for each of the rising `bounds`; nothing else is in memory.

    Raises:
        InvalidSamples: not such a file, truncated, shorter than a bound, or with an array in Fortran order.
    """
    with _readable(path), open_file(path) as file, zipfile.ZipFile(file) as archive, ExitStack() as stack:
        rows = {
            entry.removesuffix(".npy"): _Rows.of(stack.enter_context(archive.open(entry)))
            for entry in archive.namelist()
        }
        for start, stop in bounds:
            yield _assembled({name: array.read(start, stop) for name, array in rows.items()})


@dataclass
class _Rows:
    """An array in a file, read forwards along its first axis."""

    file: IO[bytes]
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    position: int = 0

    @classmethod
    def of(cls, file: IO[bytes]) -> _Rows:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
        if dtype.hasobject or not shape or (fortran and len(shape) > 1):
            raise ValueError(f"an array of {dtype}, shape {shape}, that cannot be read by rows")
        return cls(file, dtype, shape)

    def read(self, start: int, stop: int) -> NDArray[Any]:
        if not self.position <= start <= stop <= self.shape[0]:
            raise ValueError(f"{self.shape[0]} rows, of which {start} to {stop} are asked for after {self.position}")
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        self.file.seek((start - self.position) * size, io.SEEK_CUR)
        self.position = stop
        content = self.file.read((stop - start) * size)
        return np.ndarray((stop - start, *self.shape[1:]), self.dtype, content)


def _assembled(arrays: Mapping[str, NDArray[Any]]) -> Samples:
    inputs = {name.removeprefix(_INPUT): array for name, array in arrays.items() if name.startswith(_INPUT)}
    attributes = {name.removeprefix(_ATTRIBUTE): array for name, array in arrays.items() if name.startswith(_ATTRIBUTE)}
    return Samples(arrays["ids"], arrays["regions"], inputs, arrays["targets"], attributes)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidSamples(
            expected=f"samples at {path}: arrays ids, regions, targets, input:<name> and attribute:<name>",
            found=cannot_read(error),
            remedy="write the file again with regiolect.data.save_samples",
        ) from error


def require_unmasked(name: str, array: NDArray[Any]) -> None:
    """Raises InvalidSamples for a masked array: computing takes what lies under a mask for a value like any other."""
    if isinstance(array, np.ma.MaskedArray):
        raise InvalidSamples(
            expected=f"{name!r} as a plain array, every value of which counts",
            found=f"a masked array, {np.count_nonzero(array.mask)} of its {array.size} values masked",
            remedy="leave those samples out, or say what stands in their place: array.filled(0)",
        )


def preprocess(raw: NDArray[Any], how: Preprocessing) -> NDArray[np.float32]:
    """(raw * scale - mean) / std per channel (axis 1), as float32; shape unchanged.

    Raises:
        InvalidSamples: there are several means or deviations, and not as many channels.
    """
    counts = {len(how.mean), len(how.std)} - {1}
    if counts and counts != set(raw.shape[1:2]):
        raise InvalidSamples(
            expected=f"inputs with {' and '.join(map(str, sorted(counts)))} channels on axis 1, by mean and std",
            found=f"shape {raw.shape}",
            remedy="bring the channels to axis 1 and send as many as the preprocessing has values",
        )
    channels = (1, -1) + (1,) * (raw.ndim - 2) if raw.ndim > 1 else (-1,)
    mean = np.asarray(how.mean, np.float32).reshape(channels)
    std = np.asarray(how.std, np.float32).reshape(channels)
    prepared = (raw.astype(np.float32) * np.float32(how.scale) - mean) / std
    return np.ascontiguousarray(prepared, dtype=np.float32)


def model_inputs(samples: Samples, how: Preprocessing) -> dict[str, NDArray[np.float32]]:
    """Every input of `samples`, preprocessed."""
    return {name: preprocess(raw, how) for name, raw in samples.inputs.items()}

"""Calibrations as they are kept: histograms by content, tables as JSON; read back only if nothing about them is wrong.

An observation's histograms are a deflated .npz without pickle, the same bytes for the same content:

    format            int64: 1
    seal              text: digest of the seal that they belong to
    shard             int64 (2,): index, number
    names             text (tensors,)
    counts            int64 (tensors, bins)
    exponents         int64 (tensors,)
    minima, maxima    float64 (tensors,)
    range_names       text (others,)
    range_minima, range_maxima    float64 (others,)
"""

from __future__ import annotations

import io
import math
import zipfile
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from regiolect.calibrate.histogram import BINS, Extremes, Histogram
from regiolect.calibrate.observed import Observed, Shard
from regiolect.contracts import CalibrationTable, Observation, short
from regiolect.errors import ForeignCalibration, InvalidCalibration
from regiolect.host.files import RECORD
from regiolect.integrity import canonical_json, digest_of, parse_json
from regiolect.storage import Store

FORMAT = 1

_REMEDY = "run again with --force: the region's calibration set is observed anew"
_UPGRADE = "read it with the version of regiolect that wrote it, or " + _REMEDY
# One as fast as the pass itself is long: level 6 would take three times as long for a tenth less.
_LEVEL = 3
_Arrays = Mapping[str, NDArray[Any]]


def keep_observed(observed: Observed, store: Store) -> Observation:
    """Keep an observation, or a part of one, by content."""
    return Observation(seal=observed.seal, histograms=store.put_bytes(_packed(observed)))


def read_observed(observation: Observation, store: Store) -> Observed:
    """What `keep_observed` kept.

    Raises:
        ContentMissing: the store no longer has the histograms.
        IntegrityError: their bytes were changed.
        InvalidCalibration: truncated, of another format, or with arrays that do not fit together.
        ForeignCalibration: the histograms belong to another seal.
    """
    arrays = _unpacked(store.path_of(observation.histograms).read_bytes())
    owner, wanted = str(arrays["seal"]), digest_of(observation.seal)
    if owner != wanted:
        raise ForeignCalibration(
            expected=f"histograms of seal {short(wanted)} (region {observation.seal.region!r})",
            found=f"some of seal {short(owner)}",
            remedy=_REMEDY,
        )
    histograms = zip(arrays["counts"], arrays["exponents"], arrays["minima"], arrays["maxima"], strict=True)
    ranges = zip(arrays["range_minima"], arrays["range_maxima"], strict=True)
    return Observed(
        observation.seal,
        {
            str(name): Histogram(counts, int(exponent), float(low), float(high))
            for name, (counts, exponent, low, high) in zip(arrays["names"], histograms, strict=True)
        },
        {
            str(name): Extremes(float(low), float(high))
            for name, (low, high) in zip(arrays["range_names"], ranges, strict=True)
        },
        Shard(*map(int, arrays["shard"])),
    )


def table_to_bytes(table: CalibrationTable) -> bytes:
    """Canonical JSON: equal tables give equal bytes."""
    return canonical_json(table)


def table_from_bytes(data: bytes) -> CalibrationTable:
    """What `table_to_bytes` wrote.

    Raises:
        InvalidCalibration: truncated, of another format, or with fields missing, unknown or impossible.
    """
    try:
        value = parse_json(data)
    except ValueError as error:
        raise _invalid("a calibration table as JSON", f"{len(data)} bytes that are none: {error}") from error
    version = value.get("format") if isinstance(value, dict) else None
    if version != FORMAT:
        raise _invalid(f"a calibration table of format {FORMAT}", f"format {version!r}", _UPGRADE)
    try:
        return CalibrationTable.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the table"
        raise _invalid("a complete calibration table", f"{place}: {first['msg']}") from error


def _packed(observed: Observed) -> bytes:
    histograms, ranges = observed.histograms, observed.ranges
    arrays: dict[str, NDArray[Any]] = {
        "format": np.array(FORMAT, np.int64),
        "seal": np.array(digest_of(observed.seal)),
        "shard": np.array([observed.shard.index, observed.shard.of], np.int64),
        "names": np.array(list(histograms), np.str_),
        "counts": np.array([each.counts for each in histograms.values()], np.int64).reshape(-1, BINS),
        "exponents": np.array([each.exponent for each in histograms.values()], np.int64),
        "minima": np.array([each.minimum for each in histograms.values()], np.float64),
        "maxima": np.array([each.maximum for each in histograms.values()], np.float64),
        "range_names": np.array(list(ranges), np.str_),
        "range_minima": np.array([each.minimum for each in ranges.values()], np.float64),
        "range_maxima": np.array([each.maximum for each in ranges.values()], np.float64),
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, array in arrays.items():
            entry = io.BytesIO()
            np.lib.format.write_array(entry, array, allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, entry.getvalue(), compresslevel=_LEVEL)
    return buffer.getvalue()


def _unpacked(data: bytes) -> _Arrays:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            # Zeros take a thousandth of their size when deflated.
            size = sum(entry.file_size for entry in archive.zip.infolist())
            if size > RECORD:
                raise ValueError(f"{size:,} bytes when inflated, of at most {RECORD:,}")
            if int(archive["format"]) != FORMAT:
                raise _invalid(f"an observation of format {FORMAT}", f"format {int(archive['format'])}", _UPGRADE)
            arrays = {name: archive[name] for name in archive.files}
    except (ValueError, KeyError, TypeError, OSError, EOFError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        raise _invalid(
            "an observation: an .npz of counts and ranges", f"{len(data)} bytes: {error} ({type(error).__name__})"
        ) from error
    wrong = _defect(arrays)
    if wrong is not None:
        raise _invalid("an observation whose arrays fit together", wrong)
    return arrays


def _defect(arrays: _Arrays) -> str | None:
    """What is wrong with an observation's arrays, if anything is."""
    tensors, others = (arrays[name].size if name in arrays else 0 for name in ("names", "range_names"))
    expected = {
        "format": ("i", ()),
        "seal": ("U", ()),
        "shard": ("i", (2,)),
        "names": ("U", (tensors,)),
        "counts": ("i", (tensors, BINS)),
        "exponents": ("i", (tensors,)),
        "minima": ("f", (tensors,)),
        "maxima": ("f", (tensors,)),
        "range_names": ("U", (others,)),
        "range_minima": ("f", (others,)),
        "range_maxima": ("f", (others,)),
    }
    if arrays.keys() != expected.keys():
        return f"arrays {', '.join(sorted(arrays.keys() ^ expected.keys()))} missing or unknown"
    for name, (kind, shape) in expected.items():
        if arrays[name].dtype.kind != kind or arrays[name].shape != shape:
            return f"{name}: {arrays[name].dtype} of shape {arrays[name].shape}, where {shape} is right"
    names = [*arrays["names"].tolist(), *arrays["range_names"].tolist()]
    if len(set(names)) != len(names):
        return "a tensor that is there twice"
    if not 0 <= int(arrays["shard"][0]) < int(arrays["shard"][1]):
        return f"shard {arrays['shard'].tolist()}"
    for name, counts, exponent, low, high in zip(
        *(arrays[each] for each in ("names", "counts", "exponents", "minima", "maxima")), strict=True
    ):
        empty = low == math.inf and high == -math.inf and not counts.any()
        bounded = -math.inf < low <= high < math.inf and max(-low, high) < 2.0 ** float(exponent)
        if (counts < 0).any() or not (empty or (bounded and counts.any())):
            return f"{name}: {int(counts.sum())} values from {low} to {high} on a grid up to 2**{exponent}"
    for name, low, high in zip(arrays["range_names"], arrays["range_minima"], arrays["range_maxima"], strict=True):
        if not (-math.inf < low <= high < math.inf or (low == math.inf and high == -math.inf)):
            return f"{name}: values from {low} to {high}"
    return None


def _invalid(expected: str, found: str, remedy: str = _REMEDY) -> InvalidCalibration:
    return InvalidCalibration(expected=expected, found=found, remedy=remedy)

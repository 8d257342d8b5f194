"""Samples read a few at a time: the same rows as at once, and never more than asked for."""

from __future__ import annotations

import tracemalloc
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regiolect.data import Samples, read_index, read_parts, read_samples, samples_to_bytes, save_samples
from regiolect.errors import InvalidSamples


def _samples(count: int, side: int = 3) -> Samples:
    rng = np.random.default_rng(1)
    return Samples(
        ids=np.array([f"row-{row}" for row in range(count)]),
        regions=np.full(count, "eu"),
        inputs={
            "image": rng.integers(0, 256, (count, 1, side, side), np.uint8),
            "length": rng.random(count, np.float32),
        },
        targets=np.array(["ä" * (row % 4) for row in range(count)]),
    )


def _same(one: Samples, other: Samples) -> None:
    np.testing.assert_array_equal(one.ids, other.ids)
    np.testing.assert_array_equal(one.regions, other.regions)
    np.testing.assert_array_equal(one.targets, other.targets)
    assert list(one.inputs) == list(other.inputs)
    for name, array in one.inputs.items():
        assert array.dtype == other.inputs[name].dtype
        np.testing.assert_array_equal(array, other.inputs[name])


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(0, 12), min_size=2, max_size=6), st.booleans())
def test_parts_are_the_rows_of_the_whole(tmp_path: Path, cuts: set[int], compressed: bool) -> None:
    path = tmp_path / "set.npz"
    save_samples(path, _samples(12))
    if compressed:
        with np.load(path) as archive:
            np.savez_compressed(path, **dict(archive.items()))
    whole, edges = read_samples(path), sorted(cuts)
    bounds = list(pairwise(edges))[:: 2 if len(edges) > 3 else 1]
    for (start, stop), part in zip(bounds, read_parts(path, bounds), strict=True):
        _same(part, whole.take(slice(start, stop)))


def test_an_index_has_everything_but_the_values(tmp_path: Path) -> None:
    save_samples(tmp_path / "set.npz", _samples(5))
    index = read_index(tmp_path / "set.npz")
    assert (len(index), index.inputs) == (5, ("image", "length"))
    assert (index.ids[4], index.regions[4]) == ("row-4", "eu")


def test_memory_holds_a_part_and_not_the_set(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    save_samples(path, _samples(64, side=256))
    tracemalloc.start()
    rows = sum(len(part) for part in read_parts(path, [(start, start + 4) for start in range(0, 64, 4)]))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == 64
    assert peak < (64 * 256 * 256) // 4


@pytest.mark.parametrize("bounds", [[(0, 6)], [(2, 4), (1, 3)], [(3, 2)]])
def test_rows_that_are_not_there_or_lie_behind_are_refused(tmp_path: Path, bounds: list[tuple[int, int]]) -> None:
    save_samples(tmp_path / "set.npz", _samples(5))
    with pytest.raises(InvalidSamples, match="5 rows"):
        list(read_parts(tmp_path / "set.npz", bounds))


@pytest.mark.parametrize("share", [0.1, 0.6, 0.95])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    data = samples_to_bytes(_samples(200))
    path = tmp_path / "set.npz"
    path.write_bytes(data[: int(share * len(data))])
    with pytest.raises(InvalidSamples):
        read_index(path)
    with pytest.raises(InvalidSamples):
        list(read_parts(path, [(0, 200)]))


def test_a_damaged_array_and_one_with_objects_are_refused(tmp_path: Path) -> None:
    data = bytearray(samples_to_bytes(_samples(200)))
    at = data.find(_samples(200).inputs["image"].tobytes()[:64])
    data[at] ^= 1
    (tmp_path / "damaged.npz").write_bytes(data)
    with pytest.raises(InvalidSamples, match="CRC"):
        list(read_parts(tmp_path / "damaged.npz", [(0, 200)]))
    np.savez(tmp_path / "objects.npz", ids=np.array([{}], object))
    with pytest.raises(InvalidSamples):
        list(read_parts(tmp_path / "objects.npz", [(0, 1)]))


def test_an_array_that_is_not_kept_by_rows_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "set.npz"
    whole = _samples(4)
    turned = np.asfortranarray(whole.inputs["image"])
    np.savez(path, **{"ids": whole.ids, "regions": whole.regions, "targets": whole.targets, "input:image": turned})
    with pytest.raises(InvalidSamples, match="by rows"):
        list(read_parts(path, [(0, 4)]))


def test_something_else_in_a_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.npz", "w") as archive:
        archive.writestr("ids.npy", b"no array")
    for read in (read_index, lambda path: list(read_parts(path, [(0, 1)]))):
        with pytest.raises(InvalidSamples):
            read(tmp_path / "set.npz")

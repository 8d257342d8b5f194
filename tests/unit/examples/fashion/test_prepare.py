"""The script that made the shipped images: reads IDX files, picks the same images every time."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest

from examples.fashion.prepare import prepare, read_idx, stratified


def write_idx(path, array: np.ndarray) -> None:
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


@pytest.fixture
def source(tmp_path):
    rng = np.random.default_rng(0)
    for prefix, count in {"train": 8_000, "t10k": 50}.items():
        write_idx(tmp_path / f"{prefix}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28), np.uint8))
        write_idx(tmp_path / f"{prefix}-labels-idx1-ubyte.gz", np.arange(count, dtype=np.uint8) % 10)
    return tmp_path


def test_idx_is_read_in_its_own_shape(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", array)
    assert np.array_equal(read_idx(tmp_path / "a.gz"), array)


def test_a_file_of_another_type_is_refused(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"\0\0\x0d\x01" + struct.pack(">If", 1, 1.0)))
    with pytest.raises(ValueError, match=r"a\.gz is no IDX file"):
        read_idx(tmp_path / "a.gz")


def test_every_label_is_picked_equally_often_and_in_order():
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(10, dtype=np.uint8), 700))
    picked = stratified(labels)
    assert np.bincount(labels[picked]).tolist() == [600] * 10
    assert np.all(np.diff(picked) > 0)


def test_writing_twice_gives_the_same_bytes_and_the_originals_images(source, tmp_path):
    for name in ("a", "b"):
        prepare(source, tmp_path / name)
    for part in ("train.npz", "test.npz"):
        assert (tmp_path / "a" / part).read_bytes() == (tmp_path / "b" / part).read_bytes()
    with np.load(tmp_path / "a" / "train.npz", allow_pickle=False) as written:
        images = read_idx(source / "train-images-idx3-ubyte.gz")
        assert np.array_equal(written["images"], images[written["index"]])
        assert len(written["labels"]) == 6_000

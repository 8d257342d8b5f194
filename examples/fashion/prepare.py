"""Write the example's images from Fashion-MNIST's own files: python -m examples.fashion.prepare --source FOLDER.

All 10,000 test images, and 600 training images of each class picked by a fixed seed. The same files in give the same
bytes out (with one version of zlib), so `git diff` shows whether anything changed.
"""

from __future__ import annotations

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from examples.fashion.data import FOLDER
from regiolect.integrity import write_atomic

SOURCE = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's dataset-fashion-mnist puts them; https://github.com/zalandoresearch/fashion-mnist has them too."""

PER_CLASS = 600
SEED = 1


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The bytes of a gzipped IDX file as an array of its own shape.

    Source of the format: Y. LeCun, "THE MNIST DATABASE": two zero bytes, type 8, number of dimensions, then the
    dimensions as big-endian 32-bit integers.
    """
    data = gzip.decompress(path.read_bytes())
    if data[:3] != b"\0\0\x08":
        raise ValueError(f"{path} is no IDX file of unsigned bytes")
    shape = np.frombuffer(data, ">u4", count=data[3], offset=4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape.astype(int))


def read_part(source: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images (n, 28, 28) and labels (n,) of "train" or "test"."""
    prefix = {"train": "train", "test": "t10k"}[part]
    return read_idx(source / f"{prefix}-images-idx3-ubyte.gz"), read_idx(source / f"{prefix}-labels-idx1-ubyte.gz")


def stratified(labels: NDArray[np.uint8]) -> NDArray[np.intp]:
    """PER_CLASS indices of every label, in rising order."""
    rng = np.random.default_rng(SEED)
    picks = [rng.permutation(np.flatnonzero(labels == label))[:PER_CLASS] for label in np.unique(labels)]
    return np.sort(np.concatenate(picks))


def npz_bytes(**arrays: NDArray[np.generic]) -> bytes:
    """A compressed .npz without timestamps."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in sorted(arrays.items()):
            entry = io.BytesIO()
            np.lib.format.write_array(entry, np.ascontiguousarray(array), allow_pickle=False)
            info = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, entry.getvalue(), compresslevel=9)
    return buffer.getvalue()


def prepare(source: Path, folder: Path) -> None:
    """Write `train.npz` and `test.npz` to `folder`."""
    for part in ("train", "test"):
        images, labels = read_part(source, part)
        index = stratified(labels) if part == "train" else np.arange(len(labels))
        data = npz_bytes(images=images[index], labels=labels[index], index=index.astype(np.uint16))
        write_atomic(folder / f"{part}.npz", data)
        print(f"{folder / f'{part}.npz'}: {len(index)} images, {len(data) / 1e6:.2f} MB")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--source", type=Path, default=SOURCE, help="folder of the four .gz files (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, default=FOLDER, help="folder to write to (default: %(default)s)")
    arguments = parser.parse_args()
    prepare(arguments.source, arguments.output)


if __name__ == "__main__":
    main()

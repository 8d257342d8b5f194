"""The same values are the same text however they lie in memory, and a view takes no memory for what it shows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from regiolect.identity.arrays import array_digest, array_text

RECORD = np.dtype([("a", "i1"), ("b", "<f8", (2,))], align=True)
ARRAYS: dict[str, NDArray[Any]] = {
    "numbers": np.arange(600_000, dtype=np.float32).reshape(30, 200, 100),
    "big endian": np.arange(60, dtype=">i2").reshape(3, 4, 5),
    "long": np.arange(60, dtype=np.longdouble).reshape(3, 4, 5) / 3,
    "complex long": np.arange(60, dtype=np.clongdouble).reshape(3, 4, 5) / 3j,
    "text": np.array([f"word {each}" for each in range(60)]).reshape(3, 4, 5),
    "records": np.array([(each, (each, -each)) for each in range(60)], RECORD).reshape(3, 4, 5),
    "moments": np.arange(60).astype("M8[s]").reshape(3, 4, 5),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_how_an_array_lies_in_memory_does_not_count_and_its_order_does(name: str) -> None:
    array = ARRAYS[name]
    whole = array_text(array, str)
    assert array_text(np.asfortranarray(array), str) == whole
    assert array_text(np.repeat(array, 2, axis=1)[:, ::2], str) == whole
    assert array_text(array[::-1][::-1], str) == whole
    assert array_text(np.ascontiguousarray(array[::-1]), str) == array_text(array[::-1], str) != whole


def test_a_view_takes_no_memory_for_what_it_shows() -> None:
    shown = np.broadcast_to(np.arange(8, dtype=np.uint8), (8 << 20, 8))
    tracemalloc.start()
    try:
        found = array_digest(shown)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 16 << 20 < shown.nbytes
    assert found == array_digest(np.ascontiguousarray(shown))


@pytest.mark.parametrize("empty", [np.zeros((0, 3)), np.zeros((3, 0)).T, np.zeros(2, "V0"), np.zeros((3, 0, 2))[::2]])
def test_of_an_empty_array_the_kind_and_the_shape_count(empty: NDArray[Any]) -> None:
    assert array_text(empty, str).endswith(array_digest(np.zeros(0)))
    assert str(empty.shape) in array_text(empty, str)


def test_the_constant_for_what_is_masked_is_read_without_being_asked() -> None:
    assert array_text(np.ma.masked, str) == "masked"

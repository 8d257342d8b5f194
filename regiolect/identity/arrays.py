"""Arrays as text: their kind of numbers, their shape and the digest of their values, which are read a piece at a time.

>>> import numpy as np
>>> from regiolect.identity.arrays import array_text
>>> array_text(np.zeros((2, 3), np.float32), str)[:23]
"array [('', '<f4')] (2,"
>>> array_text(np.zeros(3), str) == array_text(np.zeros(6)[::2], str)
True
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.identity.values import digest, listed

# Bytes of a number of x87, which lie in front of what fills it up to a multiple of a word.
_X87 = 10 if np.finfo(np.longdouble).nmant == 63 else None
# Bytes that are read at once where an array does not lie in one piece: a view may show more than there is memory for.
_PIECE = 1 << 20


def array_text(value: NDArray[Any] | np.void, text: Callable[[object], str]) -> str:
    """An array, a masked one or a record as text, the same for the same values however they lie in memory.

    Args:
        text: of what an array of objects holds.
    """
    if value is np.ma.masked:
        # The constant, which lets nothing be asked of it.
        return "masked"
    if issubclass(type(value), np.ma.MaskedArray):
        return _masked_text(value, text)
    given = np.asarray(value)
    if given.dtype.hasobject:
        fields = f"{given.dtype.descr} " if given.dtype.names else ""
        return f"array {fields}{given.shape} {text(given.tolist())}"
    try:
        kind = str(given.dtype.descr)
    except ValueError:
        # Fields that lie upon each other, or in another order.
        kind = repr(given.dtype)
    if given.dtype.names and _is_filled_up(given.dtype):
        return listed(f"array {kind} {given.shape}", [array_text(given[name], text) for name in given.dtype.names])
    return f"array {kind} {given.shape} {array_digest(given)}"


def array_digest(array: NDArray[Any]) -> str:
    """Of the bytes of an array's values, in their order; what fills up a number is zero."""
    found = hashlib.sha256()
    for piece in _pieces(array):
        found.update(_bytes_of(piece))
    return found.hexdigest()


def number_text(value: np.generic) -> str:
    """A number of numpy's."""
    given = array_digest(np.asarray(value)) if value.dtype.char in "gG" else digest(value.tobytes())
    return f"{value.dtype.str} {given}"


def _masked_text(value: Any, text: Callable[[object], str]) -> str:
    masked = f"masked {array_text(np.ma.getdata(value), text)} {array_text(np.ma.getmaskarray(value), text)}"
    usual = np.ma.MaskedArray(np.empty(0, value.dtype))
    fill, default = (array_text(np.asarray(each.fill_value, value.dtype), text) for each in (value, usual))
    return masked if fill == default else f"{masked} filled with {fill}"


def _pieces(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    if not array.nbytes:
        return
    if array.flags.c_contiguous:
        yield array.reshape(-1)
        return
    how: dict[str, Any] = {"flags": ["external_loop", "buffered"], "op_flags": ["readonly", "contig"], "order": "C"}
    yield from np.nditer(array, buffersize=max(1, _PIECE // array.itemsize), **how)


def _bytes_of(piece: NDArray[Any]) -> memoryview:
    if piece.dtype.char in "gG" and _X87:
        native = piece.astype(piece.dtype.newbyteorder("="), copy=True).view(np.longdouble)
        cells = native.view(np.uint8).reshape(-1, native.itemsize)
        cells[:, _X87:] = 0
        return cells.reshape(-1).data
    return piece.view(np.uint8).data


def _is_filled_up(kind: np.dtype[Any]) -> bool:
    """Whether fields have bytes between or within them that belong to no value."""
    kind = kind.base
    if kind.names is None:
        return bool(_X87) and kind.char in "gG"
    fields = [kind.fields[name] for name in kind.names] if kind.fields else []
    owned = {byte for own, start, *_ in fields for byte in range(start, start + own.itemsize)}
    return len(owned) < kind.itemsize or any(_is_filled_up(own) for own, *_ in fields)

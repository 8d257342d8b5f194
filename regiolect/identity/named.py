"""What a function or class is called: names that set two of a file apart, and are the same in every process."""

from __future__ import annotations

import linecache
import re
from types import CodeType, FunctionType

from regiolect.identity.defined_in import is_users, own_name, place_of


def named(piece: FunctionType | type) -> str:
    """`module:name`; of a function that has another's name, and of one whose name stands twice in its file, what sets
    it apart as well."""
    place = place_of(piece)
    name = f"{place[0] if place else piece.__module__}:{piece.__qualname__}"
    if not isinstance(piece, FunctionType):
        return name
    own = own_name(piece)
    if own != piece.__qualname__:
        name = f"{name} by {own}"
    if piece.__code__.co_name == "<lambda>":
        return name + _line(piece.__code__)
    twice = "<" in own and place is not None and is_users(place[1]) and _stands_twice(piece)
    return f"{name} in line {piece.__code__.co_firstlineno}" if twice else name


def _stands_twice(function: FunctionType) -> bool:
    """Whether a file may define several functions of a name within others, as branches of one do."""
    code = function.__code__
    text = "".join(linecache.getlines(code.co_filename, function.__globals__))
    # What an archive holds may not be there to be read.
    return len(re.findall(rf"^[ \t]+(?:async[ \t]+)?def[ \t]+{code.co_name}\b", text, re.MULTILINE)) != 1


def _line(code: CodeType) -> str:
    """Where a lambda stands: nothing else sets two of a file apart."""
    line = f" in line {code.co_firstlineno}"
    if linecache.getline(code.co_filename, code.co_firstlineno).count("lambda") < 2:
        return line
    starts = [(row, column) for row, end_row, column, end in code.co_positions() if (row, column) != (end_row, end)]
    return line + "".join(f", at {row}:{column}" for row, column in sorted(starts)[:1])

"""One policy file as it is written: its fields, the line of each, and what is wrong before anything is understood."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from regiolect.errors import PolicyTooNew
from regiolect.policy.mistakes import Key, Mistake, dotted

FORMAT = 1
"""The newest version of the file format that is read here; see RegionPolicy.format."""


@dataclass(frozen=True)
class PolicyFile:
    """What a file says.

    Attributes:
        where: how mistakes name the file.
        stated: its fields as they stand there; empty for a file that cannot be read.
        lines: the line of each stated key, counted from 1; list items have their index as last part.
        mistakes: those of the file itself, before its fields are looked at.
        readable: whether `stated` is what the file says.
    """

    where: str
    stated: Mapping[str, Any]
    lines: Mapping[Key, int]
    mistakes: tuple[Mistake, ...] = ()
    readable: bool = True

    def line(self, key: Key) -> int | None:
        """The line of a key, or of the nearest stated one around it."""
        return next((self.lines[key[:end]] for end in range(len(key), 0, -1) if key[:end] in self.lines), None)

    def states(self, key: Key) -> bool:
        """Whether the file itself says something of a key: of all of it, or of a part."""
        return key in self.lines


def read_policy(path: Path, where: str, like: str) -> PolicyFile:
    """A file's fields with their lines. Its mistakes are told in what is returned, all of them.

    Args:
        path: the file.
        where: how mistakes name it.
        like: a file to start from, for who has none that is right.
    """
    try:
        loader = yaml.SafeLoader(path.read_bytes().decode("utf-8"))
        try:
            node = loader.get_single_node()
            if not isinstance(node, yaml.MappingNode):
                return _unreadable(where, None, f"a mapping of fields in {where}", _kind(node), f"start from {like}")
            written = _Written(where)
            written.visit(node, (), ())
            stated = loader.construct_document(node)
        finally:
            loader.dispose()
    except OSError as error:
        return _unreadable(where, None, f"to read {where}", str(error.strerror or error), "mend its permissions")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 1 if mark is not None else None
        said = (getattr(error, "context", None), getattr(error, "problem", None))
        found = " ".join(filter(None, said)) or str(error).replace("\n", " ")
        return _unreadable(where, line, f"YAML in {where}", str(found), "mend the syntax at that place")
    version = stated.get("format", FORMAT)
    if isinstance(version, int) and version > FORMAT:
        newer = Mistake(
            error=PolicyTooNew,
            file=where,
            line=written.lines.get(("format",)),
            key="format",
            expected=f"a policy of format {FORMAT} in {where}",
            found=f"format: {version}, which a newer Regiolect wrote",
            remedy="upgrade Regiolect: pip install --upgrade regiolect",
        )
        return PolicyFile(where, {}, written.lines, (newer,), readable=False)
    return PolicyFile(where, stated, written.lines, tuple(written.mistakes))


class _Written:
    """Walks a file's nodes. Keys become text as they are written: YAML takes a bare `no` or `on` for true or false."""

    def __init__(self, where: str) -> None:
        self.lines: dict[Key, int] = {}
        self.mistakes: list[Mistake] = []
        self._where = where

    def visit(self, node: yaml.Node, place: Key, inside: tuple[int, ...]) -> None:
        if id(node) in inside:
            raise yaml.MarkedYAMLError(problem=f"{dotted(place)} contains itself", problem_mark=node.start_mark)
        for part, child, line in self._children(node, place):
            key = (*place, part)
            self.lines.setdefault(key, line)
            self.visit(child, key, (*inside, id(node)))
        if isinstance(node, yaml.ScalarNode) and node.tag == "tag:yaml.org,2002:float" and not _finite(node.value):
            self._say(place, node.start_mark.line + 1, f"{dotted(place)}: {node.value} is no finite number")

    def _children(self, node: yaml.Node, place: Key) -> Iterator[tuple[str, yaml.Node, int]]:
        if isinstance(node, yaml.SequenceNode):
            yield from ((str(number), item, item.start_mark.line + 1) for number, item in enumerate(node.value))
        if not isinstance(node, yaml.MappingNode):
            return
        seen: dict[str, int] = {}
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key that is no text", problem_mark=name.start_mark)
            if name.tag != "tag:yaml.org,2002:merge":
                name.tag = "tag:yaml.org,2002:str"
            if name.value in seen:
                key = dotted((*place, name.value))
                self._say((*place, name.value), line, f"{key!r} is stated twice, first in line {seen[name.value]}")
            seen.setdefault(name.value, line)
            yield name.value, value, line

    def _say(self, place: Key, line: int, found: str) -> None:
        self.mistakes.append(Mistake.of_field(self._where, line, place, found))


def _finite(text: str) -> bool:
    return math.isfinite(float(yaml.safe_load(text)))


def _kind(node: yaml.Node | None) -> str:
    return "nothing" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _unreadable(where: str, line: int | None, expected: str, found: str, remedy: str) -> PolicyFile:
    # What is there is not known, so nothing more can be said of it.
    mistake = Mistake.of_field(where, line, (), found, expected=expected, remedy=remedy)
    return PolicyFile(where, {}, {}, (mistake,), readable=False)

"""One policy file as it is written: its fields, the line of each, and what is wrong before anything is understood."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

import yaml

from regiolect.contracts.plain_yaml import compose, refusal, value_of
from regiolect.errors import PolicyTooNew, UnusableFile
from regiolect.host.files import NOTE, read_file
from regiolect.policy.mistakes import VALIDATE, Key, Mistake, dotted

ENDINGS = (".yaml", ".yml")
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
        node = compose(read_file(path, NOTE))
        if not isinstance(node, yaml.MappingNode):
            return _unreadable(where, 1, f"a mapping of fields in {where}", _kind(node), f"start from {like}")
        written = _Written(where)
        written.visit(node, ())
        stated = value_of(node)
    except OSError as error:
        return _unreadable(where, None, f"to read {where}", str(error.strerror or error), _remedy(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark is not None else None
        found = " ".join(filter(None, (error.context, error.problem)))
        return _unreadable(
            where, line, f"plain YAML in UTF-8 in {where}", found, f"mend what stands there, then: {VALIDATE}"
        )
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


def policy_files(folder: Path) -> dict[str, tuple[Path, ...]]:
    """Each region's file in a folder, `<region>.yaml` or `<region>.yml`; both where somebody wrote both."""
    found: dict[str, tuple[Path, ...]] = {}
    for path in sorted(path for ending in ENDINGS for path in folder.glob(f"[!.]*{ending}")):
        found[path.stem] = (*found.get(path.stem, ()), path)
    return found


def one_of_several(region: str, where: Sequence[str]) -> PolicyFile:
    """What a region's policy says that stands in several files: nothing, for nobody knows which one is meant."""
    found = " and ".join(PurePath(each).name for each in where)
    remedy = "merge them into one and remove the other, or move it out of the folder"
    return _unreadable(where[0], None, f"the policy of {region!r} in one file", found, remedy)


class _Written:
    """Walks a file's nodes. Keys become text as they are written: YAML takes a bare `no` or `on` for true or false."""

    def __init__(self, where: str) -> None:
        self.lines: dict[Key, int] = {}
        self.mistakes: list[Mistake] = []
        self._where = where

    def visit(self, node: yaml.Node, place: Key) -> None:
        for part, child, line in self._children(node, place):
            key = (*place, part)
            self.lines.setdefault(key, line)
            self.visit(child, key)

    def _children(self, node: yaml.Node, place: Key) -> Iterator[tuple[str, yaml.Node, int]]:
        if isinstance(node, yaml.SequenceNode):
            yield from ((str(number), item, item.start_mark.line + 1) for number, item in enumerate(node.value))
        if not isinstance(node, yaml.MappingNode):
            return
        lines: dict[str, int] = {}
        merged: list[yaml.Node] = []
        for name, value in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise refusal("a key that is no text", name.start_mark)
            if name.value in lines:
                key = dotted((*place, name.value))
                self._say((*place, name.value), line, f"{key!r} is stated twice, first in line {lines[name.value]}")
            lines.setdefault(name.value, line)
            if name.tag == "tag:yaml.org,2002:merge":
                merged += value.value if isinstance(value, yaml.SequenceNode) else [value]
                continue
            name.tag = "tag:yaml.org,2002:str"
            yield name.value, value, line
        # What `<<` brings in is stated too, where nothing before it says otherwise.
        for other in merged:
            for part, value, line in self._children(other, place):
                if part not in lines:
                    lines[part] = line
                    yield part, value, line

    def _say(self, place: Key, line: int, found: str) -> None:
        self.mistakes.append(Mistake.of_field(self._where, line, place, found))


def _remedy(error: OSError) -> str:
    return error.remedy if isinstance(error, UnusableFile) else "mend its permissions"


def _kind(node: yaml.Node | None) -> str:
    return "nothing" if node is None else "a list" if isinstance(node, yaml.SequenceNode) else "a single value"


def _unreadable(where: str, line: int | None, expected: str, found: str, remedy: str) -> PolicyFile:
    # What is there is not known, so nothing more can be said of it.
    mistake = Mistake.of_field(where, line, (), found, expected=expected, remedy=remedy)
    return PolicyFile(where, {}, {}, (mistake,), readable=False)

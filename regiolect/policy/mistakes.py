"""A mistake in a policy file in a line: file, line, key, what is wrong, and the nearest valid name for a typo."""

from __future__ import annotations

import difflib
import functools
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from regiolect.errors import InvalidPolicy, PolicyError
from regiolect.policy.rules import NO_TIME_ZONE_DATA, RegionPolicy

Key = tuple[str, ...]
"""A field's place in a policy: ("accuracy", "limit"). List items have their index."""

_SHOWN = 100  # characters of a value
_LONGEST = 1_000  # characters of a mistake's part, whatever it quotes
VALIDATE = "regiolect policies validate"


def dotted(key: Key) -> str:
    """`accuracy.limit`; a name for the whole where there is no key."""
    return ".".join(key) or "the policy as a whole"


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        error: what it is raised as.
        file, line, key: where; the line counts from 1 and is None where nothing of the kind is written.
        expected, found: as an error says it; `found` names the key.
        remedy: what to do, where no nearest name is known.
        near: the nearest valid name.

    What is longer than 1,000 characters is cut.
    """

    error: type[PolicyError]
    file: str
    line: int | None
    key: str
    expected: str
    found: str
    remedy: str
    near: str | None = None

    def __post_init__(self) -> None:
        for name in ("key", "expected", "found", "remedy"):
            if len(text := getattr(self, name)) > _LONGEST:
                object.__setattr__(self, name, f"{text[:_LONGEST]}...")

    @classmethod
    def of_field(
        cls,
        file: str,
        line: int | None,
        key: Key,
        found: str,
        *,
        expected: str = "",
        remedy: str = "",
        near: str | None = None,
    ) -> Mistake:
        """A mistake that makes a file no valid policy."""
        expected, remedy = expected or f"a valid policy in {file}", remedy or f"mend it, then: {VALIDATE}"
        return cls(InvalidPolicy, file, line, dotted(key) if key else "", expected, found, remedy, near)

    @property
    def place(self) -> str:
        """`<file>:<line>`, as editors and terminals understand it."""
        return self.file if self.line is None else f"{self.file}:{self.line}"

    @property
    def mend(self) -> str:
        """What to do about it."""
        return self.remedy if self.near is None else f"did you mean {self.near!r}?"


def error_of(mistakes: Sequence[Mistake]) -> PolicyError:
    """One error that names every mistake; of their own kind where it is one, else InvalidPolicy."""
    kinds = {mistake.error for mistake in mistakes}
    kind = kinds.pop() if len(kinds) == 1 else InvalidPolicy
    files = dict.fromkeys(mistake.file for mistake in mistakes)
    if len(mistakes) == 1:
        return kind(mistakes[0].expected, _told(mistakes[0], alone=True), mistakes[0].mend)
    wanted, remedies = {mistake.expected for mistake in mistakes}, {mistake.remedy for mistake in mistakes}
    remedy = remedies.pop() if len(remedies) == 1 else f"mend them, then: {VALIDATE}"
    return kind(
        expected=wanted.pop() if len(wanted) == 1 else f"{_count(files)} {', '.join(files)}",
        found="; ".join(_told(mistake, several=len(files) > 1) for mistake in mistakes),
        remedy=remedy.replace("mend it,", "mend them,"),
    )


def _count(files: Mapping[str, None]) -> str:
    return "a valid policy in" if len(files) == 1 else "valid policies in"


def _told(mistake: Mistake, *, alone: bool = False, several: bool = False) -> str:
    place = f"{mistake.place}: " if several else f"line {mistake.line}: " if mistake.line is not None else ""
    # The remedy of a mistake that is alone tells the nearest name.
    near = "" if alone or mistake.near is None else f" (did you mean {mistake.near!r}?)"
    return f"{place}{mistake.found}{near}"


def explained(error: Any, file: str) -> Iterator[tuple[tuple[Key, ...], Mistake]]:
    """What pydantic tells of a policy, for people; each with the keys that it is about, the first one foremost.

    Lines are not known here.
    """
    key = tuple(str(part) for part in error["loc"])
    if not key:
        # Fields that contradict each other, a line each.
        for reason in str(error["msg"]).removeprefix("Value error, ").splitlines():
            yield mentioned(reason), Mistake.of_field(file, None, (), reason)
        return
    reason, near, expected, remedy = str(error["msg"]).removeprefix("Value error, "), None, "", ""
    found = f"{dotted(key)}: {reason}, found {shown(error['input'])}"
    if error["type"] == "extra_forbidden":
        found, near = f"unknown field {dotted(key)!r}", _nearest_field(key)
    elif error["type"] == "missing":
        found = f"{dotted(key)!r} is missing"
    elif error["type"] in ("enum", "literal_error"):
        near = nearest(str(error["input"]), re.findall(r"'([^']+)'", str(error["ctx"]["expected"])))
    elif error["type"] == NO_TIME_ZONE_DATA:
        # The host's mistake, not the file's.
        expected = f"time zone data on this host, for {dotted(key)} in {file}"
        remedy = f"pip install tzdata, or the system's package tzdata (Debian: apt install tzdata); then: {VALIDATE}"
    elif isinstance(error["input"], bool):
        found += " (YAML reads yes, no, on and off so: write a text in quotes)"
    elif error["type"] == "string_type" and isinstance(error["input"], int | float):
        found += " (write a text that looks like a number in quotes)"
    yield (key,), Mistake.of_field(file, None, key, found, expected=expected, remedy=remedy, near=near)


def shown(value: object) -> str:
    """A value as a message can show it."""
    text = reprlib.repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def mentioned(text: str) -> tuple[Key, ...]:
    """The fields that a sentence names by their full keys, in its order."""
    keys = (tuple(word.split(".")) for word in re.findall(r"[a-z]\w*(?:\.[\w-]+)*", text))
    return tuple(dict.fromkeys(key for key in keys if key[0] in RegionPolicy.model_fields))


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The name most like `name`, whatever the case; None if none is like it."""
    plain = {each.casefold(): each for each in names}
    matches = difflib.get_close_matches(name.casefold(), plain, n=1)
    return plain[matches[0]] if matches else None


def _nearest_field(key: Key) -> str | None:
    """The field that was meant: one of the same place, else one of that name anywhere in a policy."""
    beside = nearest(key[-1], [name for *place, name in _fields() if _alike(place, key[:-1])])
    if beside is not None:
        return beside
    elsewhere = {field[-1]: ".".join(field) for field in sorted(_fields(), key=len, reverse=True)}
    name = nearest(key[-1], list(elsewhere))
    return elsewhere[name] if name is not None else None


def _alike(place: Sequence[str], key: Key) -> bool:
    return len(place) == len(key) and all(pattern in ("*", part) for pattern, part in zip(place, key, strict=True))


@functools.cache
def _fields() -> frozenset[Key]:
    """Every field that a policy may have, `*` for names of one's own and for list items."""
    schema = RegionPolicy.model_json_schema()

    def walk(node: Mapping[str, Any], place: Key) -> Iterator[Key]:
        node = schema["$defs"][node["$ref"].rpartition("/")[2]] if "$ref" in node else node
        for choice in node.get("anyOf", ()):
            yield from walk(choice, place)
        for name, field in node.get("properties", {}).items():
            yield (*place, name)
            yield from walk(field, (*place, name))
        for several in ("items", "additionalProperties"):
            if isinstance(node.get(several), dict):
                yield from walk(node[several], (*place, "*"))

    return frozenset(walk(schema, ()))

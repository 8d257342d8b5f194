"""YAML that others wrote, read within bounds: plain values alone, and so much of them as such a file can sensibly hold.

YAML lets a few lines stand for more values than a memory holds (aliases of aliases), go deeper than libyaml's stack,
and make things that are no plain value (tags). What is left is text, numbers, true and false, nothing, lists and
mappings. Each refusal carries its line.
"""

from __future__ import annotations

import math
import re
import unicodedata
from typing import Any

import yaml

MOST_BYTES = 1 << 18
MOST_VALUES = 10_000
DEEPEST = 50

_TAG = "tag:yaml.org,2002:"
_STR, _INT, _FLOAT = (_TAG + name for name in ("str", "int", "float"))
_LONGEST_NUMBER = 64  # characters
_INTEGERS = 1 << 63
_FRACTION = r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)(?:[eE][-+]?[0-9]+)?"


class _Resolver(yaml.resolver.Resolver):
    """What a value that is written without quotes is: as in YAML 1.1, but `5e-1` is a number, and text are numbers of
    base 60, dates, and numbers that are not finite or have more than 64 bits."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012

    def resolve(self, kind: type[yaml.Node], value: str | None, implicit: Any) -> str:
        tag: str = super().resolve(kind, value, implicit)  # type: ignore[no-untyped-call]
        return _STR if tag in (_INT, _FLOAT) and not _is_usable(tag, str(value)) else tag


for _name, _pattern, _first in (
    ("bool", r"(?:yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF)", "yYnNtTfFoO"),
    ("float", rf"(?:{_FRACTION}|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+)", "-+0123456789."),
    ("int", r"[-+]?(?:0b[0-1_]+|0[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)", "-+0123456789"),
    ("merge", "<<", "<"),
    ("null", r"(?:~|null|Null|NULL|)", ["~", "n", "N", ""]),
):
    _Resolver.add_implicit_resolver(_TAG + _name, re.compile(rf"(?:{_pattern})\Z"), list(_first))


class _Loader(yaml.reader.Reader, yaml.scanner.Scanner, yaml.parser.Parser, yaml.composer.Composer, _Resolver):
    """PyYAML's own reader: its errors are the clearest."""

    def __init__(self, stream: str) -> None:
        yaml.reader.Reader.__init__(self, stream)
        yaml.scanner.Scanner.__init__(self)
        yaml.parser.Parser.__init__(self)
        yaml.composer.Composer.__init__(self)
        _Resolver.__init__(self)


def _fast() -> type[Any]:
    """libyaml's reader, which takes a tenth of the time; PyYAML's own where there is none."""
    if not yaml.__with_libyaml__:
        return _Loader
    from yaml._yaml import CParser

    class _FastLoader(CParser, _Resolver):
        def __init__(self, stream: str) -> None:
            CParser.__init__(self, stream)
            _Resolver.__init__(self)

    return _FastLoader


_FAST = _fast()


def compose(data: bytes, loader: type[Any] = _Loader) -> yaml.Node | None:
    """The one document of a file, None for an empty one.

    Args:
        data: the file.
        loader: what reads it.

    Raises:
        yaml.MarkedYAMLError: it is no YAML, or goes beyond the bounds; with the line where it does.
    """
    text = _text(data)
    _require_bounded(text, loader)
    reader = loader(text)
    try:
        node: yaml.Node | None = reader.get_single_node()
        return node
    finally:
        reader.dispose()


def value_of(node: yaml.Node) -> Any:
    """What a node of `compose` stands for: str, int, float, bool, None, list or dict."""
    return yaml.constructor.SafeConstructor().construct_document(node)


def read_yaml(data: bytes) -> Any:
    """What a file says, None for an empty one.

    Raises:
        ValueError: it is no YAML, or goes beyond the bounds.
    """
    try:
        node = compose(data, _FAST)
        return None if node is None else value_of(node)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def refusal(text: str, mark: Any) -> yaml.MarkedYAMLError:
    """An error of a place in a file."""
    return yaml.MarkedYAMLError(problem=text, problem_mark=mark)


def _text(data: bytes) -> str:
    if len(data) > MOST_BYTES:
        raise refusal(f"{len(data):,} bytes, of at most {MOST_BYTES:,}", _mark(0))
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = f"the byte 0x{data[error.start]:02x}, which is no UTF-8: save the file as UTF-8"
        raise refusal(found, _mark(data.count(b"\n", 0, error.start))) from error
    try:
        yaml.reader.Reader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise refusal(f"the character {_named(chr(error.character))}", _mark(line)) from error
    return text


def _mark(line: int) -> yaml.Mark:
    return yaml.Mark("", 0, line, 0, None, 0)


def _require_bounded(text: str, loader: type[Any]) -> None:
    """By events, which take no memory: how deep, how many values, what the aliases come to, and what values are."""
    sizes: dict[str, int] = {}
    # Anchor and number of values of what is open, the document first.
    open_: list[tuple[str | None, int]] = [(None, 0)]
    total = 0
    for event in yaml.parse(text, Loader=loader):
        mark = event.start_mark
        if isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_.pop()
            if anchor is not None:
                sizes[anchor] = total - before
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open_):
                raise refusal(f"*{event.anchor}, which contains itself", mark)
            total += sizes.get(str(event.anchor), 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            if event.tag is not None and not event.implicit:
                raise refusal(_of_tag(event.tag), mark)
            open_.append((event.anchor, total))
            total += 1
            if len(open_) > DEEPEST:
                raise refusal(f"values more than {DEEPEST} levels deep", mark)
        elif isinstance(event, yaml.ScalarEvent):
            _require_plain(event)
            total += 1
            if event.anchor is not None:
                sizes[event.anchor] = 1
        if total > MOST_VALUES:
            raise refusal(f"more than {MOST_VALUES:,} values, aliases counted as what they stand for", mark)


def _require_plain(event: yaml.ScalarEvent) -> None:
    value: str = event.value
    if event.tag not in (None, "!", _STR):
        raise refusal(_of_tag(event.tag), event.start_mark)
    strange = next((each for each in value if each not in "\n\t" and unicodedata.category(each) in ("Cc", "Cs")), None)
    if strange is not None:
        raise refusal(f"the character {_named(strange)} in a value", event.start_mark)


def _is_usable(tag: str, number: str) -> bool:
    if len(number) > _LONGEST_NUMBER:
        return False
    node, constructor = yaml.ScalarNode(tag, number), yaml.constructor.SafeConstructor()
    try:
        if tag == _FLOAT:
            return math.isfinite(constructor.construct_yaml_float(node))
        return bool(-_INTEGERS <= constructor.construct_yaml_int(node) < _INTEGERS)
    except ValueError:
        # `0x_`
        return False


def _of_tag(tag: str) -> str:
    return f"the tag {tag.replace(_TAG, '!!')}: only plain values are read"


def _named(character: str) -> str:
    return f"U+{ord(character):04X}"

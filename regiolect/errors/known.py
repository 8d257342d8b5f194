"""Where secrets that are known stand in a text: as they are, and as programs write them, with a backslash before a
quote, in percent signs, in base64 behind a user's name, or right behind the `n` of a line's end."""

from __future__ import annotations

import base64
import html
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from urllib.parse import quote, quote_plus

Span = tuple[int, int]

SHORTEST = 6
"""Signs of a secret that is looked for as a word of a text; a shorter one may be a word of its own."""
SHORTEST_ANYWHERE = 8
"""Signs of a secret that is looked for within words as well, unless it has letters alone: `postgres` may be one."""
SHORTEST_PART = 3
"""Signs of a part of one, which is looked for where a text quotes it, as errors do."""
_SHORTEST_CODE = 10
"""Signs of a secret in base64 or in hexadecimal digits."""

# What ends a word before a secret: no letter or digit, or one that belongs to an escape or a colour.
_BEFORE = re.compile(
    r"(?:\A|[^A-Za-z0-9]|\\[abfnrtv]|\\x[0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|%[0-9a-fA-F]{2}|\[[\d;]{1,12}m)\Z"
)
_LONGEST_BEFORE = 14
_QUOTES = "'\""
_PERCENT = re.compile("%[0-9A-F]{2}")


@dataclass(frozen=True)
class Known:
    """Secrets in all their forms, by where in a text each of them counts."""

    anywhere: tuple[str, ...]
    words: tuple[str, ...]
    quoted: tuple[str, ...]

    @classmethod
    def of(cls, whole: Iterable[str], parts: Iterable[str]) -> Known:
        """Args: whole: secrets; parts: what stands between the signs of one."""
        long = {each for each in whole if len(each) >= SHORTEST}
        anywhere = {each for each in long if len(each) >= SHORTEST_ANYWHERE and not each.isalpha()}
        coded = {code for each in long for code in _codes(each) if len(code) >= _SHORTEST_CODE}
        return cls(
            (*(form for each in anywhere for form in _forms(each)), *coded),
            tuple(form for each in long - anywhere for form in _forms(each)),
            tuple(each for each in parts if len(each) >= SHORTEST_PART),
        )

    def spans(self, text: str) -> list[Span]:
        """From where to where they stand; some may lie in others."""
        found = list(_found(text, self.anywhere, lambda start, end: True))
        found += _found(text, self.words, lambda start, end: _is_word(text, start, end))
        found += _found(text, self.quoted, lambda start, end: _is_quoted(text, start, end))
        return found


def united(spans: Iterable[Span]) -> Iterator[Span]:
    """In order, and those that overlap as one."""
    last: Span | None = None
    for start, end in sorted(spans):
        if last is not None and start < last[1]:
            last = last[0], max(end, last[1])
            continue
        if last is not None:
            yield last
        last = start, end
    if last is not None:
        yield last


def _forms(secret: str) -> set[str]:
    """A secret as Python, JSON, an address or a page writes it, and text in text."""
    once = _escaped(secret).union(*(_escaped(unicodedata.normalize(form, secret)) for form in ("NFC", "NFD")))
    raw = secret.encode(errors="surrogateescape")
    encoded = {quote(raw), quote(raw, safe=""), quote_plus(raw), quote(quote(raw, safe=""), safe="")}
    encoded |= {_PERCENT.sub(lambda found: found[0].lower(), form) for form in encoded}
    page = html.escape(secret)
    written = {page, page.replace("&#x27;", "&#39;").replace("&quot;", "&#34;"), secret.replace("/", "\\/")}
    # In a command of a shell and in SQL.
    written |= {secret.replace("'", quoted) for quoted in ("'\"'\"'", "'\\''", "''")}
    return {secret, *written, *once, *encoded}.union(*map(_escaped, once))


def _codes(secret: str) -> set[str]:
    """A secret in hexadecimal digits, and in base64 with anything before it, as a user and a colon in a header: what of
    that the signs around it do not change."""
    found: set[str] = set()
    for raw in {secret.encode(errors="surrogateescape"), secret.encode("latin-1", errors="ignore")}:
        found |= {raw.hex(), raw.hex().upper()}
        for before in range(3):
            code = base64.b64encode(bytes(before) + raw)
            # Bits of six make a sign.
            own = code[-(-8 * before // 6) : 8 * (before + len(raw)) // 6].decode()
            found |= {own, own.replace("+", "-").replace("/", "_")}
    return found


def _escaped(text: str) -> set[str]:
    """As a literal of Python's or of JSON has it: which quotes are escaped is for what stands around it to say."""
    raws = (text.encode(errors="surrogateescape"), text.encode("latin-1", errors="ignore"))
    forms = {
        "".join(sign if sign in _QUOTES else repr(sign)[1:-1] for sign in text),
        *(
            "".join(chr(byte) if byte in _QUOTES.encode() else repr(bytes([byte]))[2:-1] for byte in each)
            for each in raws
        ),
        "".join(sign if sign in _QUOTES else json.dumps(sign)[1:-1] for sign in text),
        "".join(sign if sign in _QUOTES else json.dumps(sign, ensure_ascii=False)[1:-1] for sign in text),
    }
    for sign in _QUOTES:
        forms |= {form.replace(sign, f"\\{sign}") for form in forms}
    return forms


def _found(text: str, secrets: Iterable[str], counts: Callable[[int, int], bool]) -> Iterator[Span]:
    for secret in secrets:
        start = text.find(secret)
        while start >= 0:
            end = start + len(secret)
            if counts(start, end):
                yield start, end
            start = text.find(secret, end)


def _is_word(text: str, start: int, end: int) -> bool:
    after = text[end : end + 1]
    return (
        not (after.isascii() and after.isalnum())
        and _BEFORE.search(text, max(0, start - _LONGEST_BEFORE), start) is not None
    )


def _is_quoted(text: str, start: int, end: int) -> bool:
    return text[max(0, start - 1) : start] in ("'", '"') and text[end : end + 1] in ("'", '"', "@")

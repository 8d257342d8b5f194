"""What is left out of everything that is printed, logged, tagged or kept: the secrets in addresses.

An address may hold a password, a token in place of a user, or either in its query, with slashes and other signs in it
that should have been encoded; or another address. A library that takes such an address apart prints the parts, and a
driver prints its settings one by one. So text is searched for places where secrets stand (addresses, queries,
`password=...`, headers with credentials), and for what this process's environment holds: its passwords and tokens, and
those of the addresses in it, in parts too. Where it is not certain what is secret, too much is left out. Every error of
ours is made of such text; `regiolect.errors.output` does the same for whatever else a process of ours says.
"""

from __future__ import annotations

import functools
import os
import re
import traceback
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 6
"""Characters of a secret that is looked for anywhere in a text; a shorter one may be a word of it."""
_SHORTEST_PART = 3
_DEEPEST = 4
"""Addresses in the query of one another that are taken apart; what is deeper is left out whole."""

# No scheme is longer; without a bound a text of one long word would take minutes.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]{0,30}"
# Signs between which an `@` is looked for: longer than any password, for the same reason.
_FAR = 2_000
_WORD = (
    r"passw(?:or)?d|passphrase|pwd|secret(?:[_-]?key)?|token|(?:api|access|account|private|subscription)[_-]?key"
    r"|access[_-]?signature"
)
# Where secrets stand in a text: in an address, a path of a host with user and password, or a query; or behind a name.
_PLACE = re.compile(
    rf"""
    (?P<opening>
        {_SCHEME}://
      | (?: {_SCHEME}:/ | (?<![:/\w])// ) (?= [^\s/:@'"]{{1,{_FAR}}} : [^\s'"]{{1,{_FAR}}} @ )
      | (?= \?[^\s=&?'"]+= )
    )
    (?P<rest>
        # Several addresses may stand in a list without a space. A quote before a letter is a password's, if there is
        # an `@` to come.
        (?: (?! [,;|]{_SCHEME}:// ) (?: [^\s'"<>`] | ['"](?= \w (?:(?!://)\S){{0,{_FAR}}} @ ) ) )+
    )
  | (?i: {_WORD} ) (?: ['"]?[ ]*[:=][ ]*(?=[bru]?['"]) | ['"]?=(?![=\s]) | [ ]=[ ](?=\S) | ['"]?:(?![\s/]) )
    (?P<value>
        [bru]?'(?P<single> (?: \\. | [^\\'\n] )* )'? | [bru]?"(?P<double> (?: \\. | [^\\"\n] )* )"?
        # What closes brackets, quotes and sentences around it stays.
      | \S* [^\s'"),;.\]}}>] | \S
    )
  | (?i: authorization | cookie | \b x-[\w\-]{{0,30}} (?: key | token ) | \b private-token )
    ['"]?[ ]*[:=][ ]*['"]? (?P<header> [^\s'"][^\n'"]* )
    """,
    re.VERBOSE,
)
_WHOLE = re.compile(rf"\s*({_SCHEME})(?:://|:/?(?=[^/\s].*@))(.*)", re.DOTALL)
_NAME = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=")
# A driver takes all signs but one for its password's.
_END, _END_IN_DATABASES = re.compile(r"&|[;#](?=[^=&;#?\s]+=)"), re.compile("&")
_SECRET_NAME = re.compile(
    rf"{_WORD}|pass|pwd|sig(nature)?$|credential|auth|odbc_connect|^(key|code|jwt)$", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|_PWD|API_KEY|ACCESS_KEY|AUTH_STRING)(?!.*_(FILE|PATH|DIR)$)",
    re.IGNORECASE,
)
_DATABASES = ("cockroachdb", "mariadb", "mssql", "mysql", "oracle", "postgres", "redshift")
# What stands beside a token that is given as the user.
_NO_PASSWORD = ("", "x-oauth-basic", "x-token-auth")
_SIGNS = re.compile(r"[@/?#:,\[\]]")


def redacted(text: str) -> str:
    """A text without the secrets of the addresses in it, `postgresql://me:***@host/db`, without those behind a name,
    `host=db password=***`, and without this process's own."""
    for pattern in _patterns(tuple(sorted(os.environ.items()))):
        text = pattern.sub(HIDDEN, text)
    return _without(text, (span for place in _PLACE.finditer(text) for span in _secrets(place)))


def redacted_address(address: str) -> str:
    """As `redacted`, of an address alone: a password may have spaces, and the slashes after the scheme be missing."""
    return redacted(_parsed(address))


def showable(error: BaseException) -> BaseException | None:
    """An error of a library's, to be the cause of one of ours; None if what Python prints of it tells a secret.

    That is its text, its notes, the members of a group, and all causes. Where it was raised does not count.
    """
    try:
        # With no frames; causes that form a cycle are told once.
        told = "".join(traceback.format_exception(error, limit=0))
    # It is the error's own code.
    except Exception:  # noqa: BLE001
        return None
    return error if redacted(told) == told else None


def _parsed(address: str) -> str:
    whole = _WHOLE.fullmatch(address)
    if whole is None:
        return address
    scheme, rest = whole[1], whole[2]
    return f"{address[: whole.start(2)]}{_without(rest, _of_address(scheme, rest, _userinfo(rest)))}".strip()


def without_userinfo(address: str) -> str:
    """An address without user and password."""
    whole = _WHOLE.fullmatch(address)
    return address if whole is None else f"{whole[1]}://{whole[2][_userinfo(whole[2]) :]}"


def secrets_of(address: str) -> frozenset[str]:
    """What is secret in an address, as it stands there and as it reads when it is decoded."""
    whole = _WHOLE.fullmatch(address)
    if whole is None:
        return frozenset()
    scheme, rest = whole[1], whole[2]
    # With a host before it, an `@` is as likely as not a path's.
    end = 0 if _is_host(rest) else _userinfo(rest)
    found = {rest[start:stop] for start, stop in _of_address(scheme, rest, end)}
    # What is put beside a token stands for no password.
    found |= {value.partition(":")[0] for value in found if value.partition(":")[2] in _NO_PASSWORD}
    return frozenset(each for value in found for each in (value, unquote(value), unquote_plus(value)) if each)


def _without(text: str, secrets: Iterator[tuple[int, int]]) -> str:
    shown, at = [], 0
    for start, end in secrets:
        shown += [text[at:start], HIDDEN]
        at = end
    return "".join([*shown, text[at:]])


def _secrets(place: re.Match[str], depth: int = 0) -> Iterator[tuple[int, int]]:
    """From where to where the secrets of a place stand, in order."""
    if depth == _DEEPEST:
        yield place.span()
        return
    if place["opening"] is None:
        kind = next(kind for kind in ("single", "double", "header", "value") if place[kind] is not None)
        yield place.span(kind)
        return
    at, rest = place.start("rest"), place["rest"]
    for start, end in _of_address(place["opening"], rest, _userinfo(rest), depth):
        yield at + start, at + end


def _of_address(scheme: str, rest: str, at: int, depth: int = 0) -> Iterator[tuple[int, int]]:
    """The secrets in what follows a scheme, where user and password end at `at`."""
    database = scheme.lower().startswith(_DATABASES)
    inner, looked = None, False
    if at:
        user, _, password = rest[: at - 1].partition(":")
        if password and (database or password not in _NO_PASSWORD):
            yield len(user) + 1, at - 1
        elif not database:
            yield 0, at - 1
    for name in _NAME.finditer(rest, at):
        if name.start() < at:
            continue
        ends = (_END_IN_DATABASES if database else _END).search(rest, name.end())
        start, end = name.end(), ends.start() if ends else len(rest)
        if not looked or (inner is not None and inner.start() < start):
            # The next one for all names before it: a query may have thousands.
            inner, looked = _PLACE.search(rest, start), True
        encoded = rest[start : min(end, inner.start()) if inner else end]
        if _SECRET_NAME.search(unquote(name[1])) or ("%" in encoded and _tells(unquote(encoded), depth + 1)):
            if start < end:
                yield start, end
            at = end
        elif inner is not None and inner.start() < end:
            # An address in the query of another one; what comes after it may be of either.
            yield from _secrets(inner, depth + 1)
            at = inner.end()


def _tells(text: str, depth: int) -> bool:
    return any(True for place in _PLACE.finditer(text) for _ in _secrets(place, depth))


def _userinfo(rest: str) -> int:
    """Where user and password end in what follows a scheme, behind their `@`; 0 where there are none.

    Slashes, `?`, `#` and `@` in a password should have been encoded, and often are not: all up to the last `@` is taken
    for it, unless that stands in a value of the query, which comes after a host and a slash.
    """
    if rest.startswith(("/", "?")):
        # A file's path, or a query alone.
        return 0
    query = re.search(r"\?[^@=]*=", rest)
    if query is None:
        return rest.rfind("@") + 1
    before, at, host = rest[: query.start()].rpartition("@")
    if "/" in host if at else _is_host(rest):
        return len(before) + len(at)
    return rest.rfind("@") + 1


def _is_host(rest: str) -> bool:
    return re.match(r"[\w.\-]+(:\d+)?/|\[[0-9a-fA-F:.]+\]", rest) is not None


@functools.lru_cache(maxsize=4)
def _patterns(environment: tuple[tuple[str, str], ...]) -> tuple[re.Pattern[str], ...]:
    """What finds the environment's secrets in a text, the longest first."""
    whole: set[str] = set()
    parts: set[str] = set()
    for name, value in environment:
        if _SECRET_VARIABLE.search(name) and "://" not in value:
            # One of them is a user and a password.
            whole |= {value, value.partition(":")[2]}
        elif "://" in value:
            # What an address shows anyhow, as `postgres` for both user and password, would be cut out of every text.
            shown = _parsed(value)
            for secret in secrets_of(value):
                whole |= {secret} if secret not in shown else set()
                parts |= {part for part in (secret, *_SIGNS.split(secret)) if part not in shown}
    # A word of a text may be a short secret, or have one in it: those are left out where they are quoted, as errors do.
    found = [(each, rf"(?<![A-Za-z0-9]){re.escape(each)}(?![A-Za-z0-9])") for each in whole if len(each) >= SHORTEST]
    found += [(each, rf"(?<=['\"]){re.escape(each)}(?=['\"@])") for each in parts if len(each) >= _SHORTEST_PART]
    return tuple(re.compile(pattern) for _, pattern in sorted(found, key=lambda item: -len(item[0])))

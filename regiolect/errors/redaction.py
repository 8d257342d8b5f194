"""What is left out of everything that is printed, logged, tagged or kept: the secrets in addresses.

An address may hold a password, a token in place of a user, or either in its query, with slashes and other signs in it
that should have been encoded; or another address. A library that takes such an address apart prints the parts, and a
driver prints its settings one by one. So text is searched for places where secrets stand (addresses here; what has a
name, a header or a look of its own in `regiolect.errors.secret_forms`), and for what this process's environment holds,
in whatever way a program writes it: its passwords and tokens, and those of the addresses and settings in it, in parts
too. One list of names serves all of these. Where it is not certain what is secret, too much is left out: a `token` is
one, unless its name says what it does in a text model, as `pad_token` and `eos_token` do; a header `x-...` counts where
its last word is `key` or `token`, so `x-monkey` does not. A name with a colon and a space is prose, `password: set
one`, but for names of keys, `api-key: ...`, which are headers, and for the rest of a line that is no word, as YAML has
it.

Every error of ours is made of such text; `regiolect.errors.output` does the same for whatever else a process of ours
says. Looking takes time in proportion to the text.
"""

from __future__ import annotations

import functools
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote, unquote_plus

from regiolect.errors.family import family, printed
from regiolect.errors.known import Known, Span, united
from regiolect.errors.secret_forms import (
    BARE,
    ELEMENT,
    ENCODED,
    FAR,
    GAP,
    HEADER,
    HEADERS_VALUE,
    KEYS_LINES,
    KNOWN_BY_LOOK,
    NEAR,
    PRIVATE_KEY,
    TEXT,
    WORD,
    named,
)

HIDDEN = "***"
MOST_SIGNS = 100_000
"""Signs of a text of others that are read; some drivers print all that they were given."""
_NOTE_SIGNS = 100
_DEEPEST = 4
"""Addresses in the query of one another that are taken apart; what is deeper is left out whole."""

# No scheme is longer; without a bound a text of one long word would take minutes.
_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]{0,30}"
_REST = (
    # Several addresses may stand in a list without a space. A quote or a bracket before a letter is a password's, if
    # there is an `@` to come.
    rf"(?! [,;|]{_SCHEME}:// ) (?: [^\s'\"<>`] | ['\"<>`](?= \w"
    rf" [^\s:@]{{0,{NEAR}}}+ (?: :(?!//)[^\s:@]{{0,{NEAR}}}+ ){{0,9}}+ @ ) )"
)
# What comes before a secret: an address, a path of a host with user and password, or a query.
_ADDRESS = rf"""(?:
        {_SCHEME}://
      | (?: {_SCHEME}:/ | (?<![:/\w])// ) (?= [^\s/:@'"]{{1,{FAR}}} : [^\s'"]{{1,{FAR}}} @ )
      | (?= \?[^\s=&?'"]+= )
    ) (?= {_REST} )"""
_OPENING = re.compile(rf"{_ADDRESS}|{named()}|{HEADER}|{BARE}|{ELEMENT}|{KNOWN_BY_LOOK}|{PRIVATE_KEY}", re.VERBOSE)
_SINGLE, _DOUBLE = r"(?: \\. | [^\\'\n] )*+", r'(?: \\. | [^\\"\n] )*+'
# What Python would join to a text, as what it prints in several lines.
_JOIN = rf"{GAP}*\n?{GAP}*[bru]{{0,2}}"
# Where secrets stand in a text, with what comes before them.
_PLACE = re.compile(
    rf"""
    (?P<opening> {_ADDRESS} ) (?P<rest> (?: {_REST} )+ )
  | {named(*ENCODED)}
    (?P<value>
        [bru]{{0,2}} (?P<fence>'{{3}}|"{{3}}) (?P<fenced> (?: (?!(?P=fence))[\s\S] )* (?=(?P=fence)) | [^\n]* )
      | [bru]{{0,2}}'(?P<single> {_SINGLE} (?: '{_JOIN}'{_SINGLE} )* )'?
      | [bru]{{0,2}}"(?P<double> {_DOUBLE} (?: "{_JOIN}"{_DOUBLE} )* )"?
      | [\[({{](?=[\[({{\s]{{0,40}}{TEXT}|\*{{3}}) (?P<listed> (?: '{_SINGLE}'? | "{_DOUBLE}"? | [^'"\])}}\n]+ )*+ )
        # JSON within JSON: its quotes have as many backslashes at the end as at the beginning.
      | (?P<slashes>\\+)(?P<quote>['"])
        (?P<nested> (?: (?!(?P=quote))[^\\\n] | (?!(?P=slashes)(?P=quote))\\+['"]? )* )
        # What closes brackets, quotes and sentences around it stays.
      | \S* [^\s'"),;.\]}}>] | \S
    )
  | {HEADER} (?P<header> {HEADERS_VALUE} )
  | {BARE} (?P<bare> [\w\-.~+/=]+ )
  | {ELEMENT} (?P<element> [^<\n]+ )
  | (?P<token> {KNOWN_BY_LOOK} )
  | {PRIVATE_KEY} (?P<key> {KEYS_LINES} )
    """,
    re.VERBOSE,
)
# Steps through brackets within brackets.
_STEP = re.compile(rf"""'{_SINGLE}'? | "{_DOUBLE}"? | [\[({{] | [\])}}] | [^'"\[\](){{}}]+""", re.VERBOSE)
_KINDS = ("fenced", "single", "double", "listed", "nested", "header", "bare", "element", "token", "key", "value")
_WHOLE = re.compile(rf"\s*({_SCHEME})(?:://|:/?(?=[^/\s].*@))(.*)", re.DOTALL)
_NAME = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=")
# A driver takes all signs but one for its password's.
_END, _END_IN_DATABASES = re.compile(r"&|[;#](?=[^=&;#?\s]+=)"), re.compile("&")
_SECRET_NAME = re.compile(rf"{WORD}|pass|sig(nature)?$|credential|auth|odbc_connect|^(key|code|jwt)$", re.IGNORECASE)
# `PWD` is a shell's folder.
_SECRET_VARIABLE = re.compile(rf"(?!(?:OLD)?PWD$).*(?:{WORD})(?!.*_(?:FILE|PATH|DIR)$)", re.IGNORECASE)
_DATABASES = ("cockroachdb", "mariadb", "mssql", "mysql", "oracle", "postgres", "redshift")
# What stands beside a token that is given as the user.
_NO_PASSWORD = ("", "x-oauth-basic", "x-token-auth")
# A host with a dot and then a path; what a container's image is named by.
_DOTTED_HOST, _DIGEST = (
    re.compile(r"[\w\-]+(?:\.[\w\-]+)+(?::\d+)?/"),
    re.compile(r"@sha(?:256|512):[0-9a-f]{12,}(?!\w)"),
)
_SIGNS = re.compile(r"[@/?#:,\[\]]")
_LINES = re.compile(r"[\r\n]+|\\[rn]")
_SHORTEST_LINE = 16
# Signs of a variable that is searched: a program's longest ones hold no settings of a driver.
_LONGEST_VALUE = 20_000


def redacted(text: str) -> str:
    """A text without the secrets of the addresses in it, `postgresql://me:***@host/db`, without those behind a name,
    `host=db password=***`, and without this process's own."""
    if known := _known(tuple(sorted(os.environ.items()))).spans(text):
        # One of them may be the name of another, as `password` is.
        text = _without(text, united([*known, *_places(text)]))
    return _without(text, _places(text))


def shortened(text: str) -> str:
    """A text, or the beginning of one that is too long to be read, up to a space: what is cut in two would not be known
    for a secret."""
    if len(text) <= MOST_SIGNS + _NOTE_SIGNS:
        return text
    end = max(text.rfind(space, 0, MOST_SIGNS) for space in (" ", "\n"))
    begins = text[: max(end, 0)]
    return f"{begins} [{len(text) - len(begins)} more signs]"


def redacted_address(address: str) -> str:
    """As `redacted`, of an address alone: a password may have spaces, and the slashes after the scheme be missing."""
    return redacted(_parsed(address))


def showable(error: BaseException) -> BaseException | None:
    """An error of a library's, to be the cause of one of ours; None if what Python prints of it tells a secret.

    That is its text, its notes, the members of a group, and all causes. Where it was raised does not count.
    """
    try:
        told = "\n".join(map(printed, family(error)))
    # It is the error's own code.
    except Exception:  # noqa: BLE001
        return None
    return error if redacted(shortened(told)) == told else None


def _parsed(address: str) -> str:
    whole = _WHOLE.fullmatch(address)
    if whole is None:
        return address
    scheme, rest = whole[1], whole[2]
    return f"{address[: whole.start(2)]}{_without(rest, _of_address(scheme, rest, _userinfo(scheme, rest)))}".strip()


def without_userinfo(address: str) -> str:
    """An address without user and password."""
    whole = _WHOLE.fullmatch(address)
    return address if whole is None else f"{whole[1]}://{whole[2][_userinfo(whole[1], whole[2]) :]}"


def secrets_of(address: str) -> frozenset[str]:
    """What is secret in an address, as it stands there and as it reads when it is decoded."""
    whole = _WHOLE.fullmatch(address)
    if whole is None:
        return frozenset()
    scheme, rest = whole[1], whole[2]
    # With a host before it, an `@` is as likely as not a path's.
    end = 0 if _is_host(rest) else _userinfo(scheme, rest)
    found = {rest[start:stop] for start, stop in _of_address(scheme, rest, end)}
    # What is put beside a token stands for no password.
    found |= {value.partition(":")[0] for value in found if value.partition(":")[2] in _NO_PASSWORD}
    return frozenset(each for value in found for each in (value, unquote(value), unquote_plus(value)) if each)


def _places(text: str) -> Iterator[Span]:
    return united(span for place in _PLACE.finditer(text) for span in (_in_brackets(place) or _secrets(place)))


def _in_brackets(place: re.Match[str]) -> list[Span]:
    """What brackets hold where others are within them, up to their own end, if that is near."""
    if place["opening"] is None and place["listed"] is not None:
        depth = 1
        for step in _STEP.finditer(place.string, place.start("listed"), place.start("listed") + FAR):
            depth += (step[0] in "[({") - (step[0] in "])}")
            if not depth:
                return [(place.start("listed"), step.start())]
    return []


def _without(text: str, secrets: Iterator[Span]) -> str:
    shown, at = [], 0
    for start, end in secrets:
        shown += [text[at:start], HIDDEN]
        at = end
    return "".join([*shown, text[at:]])


def _secrets(place: re.Match[str], depth: int = 0) -> Iterator[Span]:
    """From where to where the secrets of a place stand, in order."""
    if depth == _DEEPEST:
        yield place.span()
        return
    if place["opening"] is None:
        kind = next(kind for kind in _KINDS if place[kind] is not None)
        yield place.span(kind)
        return
    at, rest = place.start("rest"), place["rest"]
    for start, end in _of_address(place["opening"], rest, _userinfo(place["opening"], rest), depth):
        yield at + start, at + end


def _of_address(scheme: str, rest: str, at: int, depth: int = 0) -> Iterator[Span]:
    """The secrets in what follows a scheme, where user and password end at `at`."""
    database = scheme.lower().startswith(_DATABASES)
    if at:
        user, _, password = rest[: at - 1].partition(":")
        if password and (database or password not in _NO_PASSWORD):
            yield len(user) + 1, at - 1
        elif not database:
            yield 0, at - 1
    # Where the next value ends and the next place begins, each for all names before it: a query may have thousands.
    end = opening = told = -1
    for name in _NAME.finditer(rest, at):
        start = name.end()
        if name.start() < at:
            continue
        if end < start:
            end = _start(_END_IN_DATABASES if database else _END, rest, start)
        if opening < start:
            opening = _start(_OPENING, rest, start)
        # What was decoded with the value of another name is not decoded again.
        encoded = rest[start : min(end, opening)] if told < min(end, opening) else ""
        told = max(told, min(end, opening))
        if _SECRET_NAME.search(unquote(name[1])) or ("%" in encoded and _tells(unquote(encoded), depth + 1)):
            if start < end:
                yield start, end
            at = end
        elif opening < end and (inner := _PLACE.match(rest, opening)):
            # An address in the query of another one; what comes after it may be of either.
            yield from _secrets(inner, depth + 1)
            at = inner.end()


def _start(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.search(text, at)
    return len(text) if found is None else found.start()


def _tells(text: str, depth: int) -> bool:
    return any(True for place in _PLACE.finditer(text) for _ in _secrets(place, depth))


def _userinfo(scheme: str, rest: str) -> int:
    """Where user and password end in what follows a scheme, behind their `@`; 0 where there are none.

    Slashes, `?`, `#` and `@` in a password should have been encoded, and often are not: all up to the last `@` is taken
    for it, unless that stands in a value of the query, which comes after a host and a slash.
    """
    # A file's path, or a query alone; what pip installs at a version.
    if rest.startswith(("/", "?")) or (scheme.lower().startswith("git+") and _DOTTED_HOST.match(rest)):
        return 0
    if image := _DIGEST.search(rest):
        rest = rest[: image.start()]
    # The first `?` with a `=` behind it and no other sign of these between.
    query = re.search(r"(?:\A|(?<=[@=]))[^?@=]*(\?)[^@=]*=", rest)
    if query is None:
        return rest.rfind("@") + 1
    before, at, host = rest[: query.start(1)].rpartition("@")
    if "/" in host if at else _is_host(rest):
        return len(before) + len(at)
    return rest.rfind("@") + 1


def _is_host(rest: str) -> bool:
    return re.match(r"[\w.\-]+(:\d+)?/|\[[0-9a-fA-F:.]+\]", rest) is not None


@functools.lru_cache(maxsize=4)
def _known(environment: tuple[tuple[str, str], ...]) -> Known:
    """The environment's secrets."""
    whole: set[str] = set()
    parts: set[str] = set()
    for name, value in environment:
        # Where a file is named, what is secret is in it. A value may be too long for a path.
        if _SECRET_VARIABLE.match(name) and "://" not in value and not os.path.isfile(value):  # noqa: PTH113
            # One of them is a user and a password.
            whole |= {value, value.partition(":")[2], *_lines(value), *_secrets_in(value)}
        elif value.count("://") != 1 or _WHOLE.fullmatch(value) is None:
            whole |= _secrets_in(value)
        else:
            # What an address shows anyhow, as `postgres` for both user and password, would be cut out of every text.
            shown = _parsed(value)
            for secret in secrets_of(value):
                whole |= {secret} if secret not in shown else set()
                parts |= {part for part in (secret, *_SIGNS.split(secret)) if part not in shown}
    return Known.of(whole, parts)


def _secrets_in(value: str) -> set[str]:
    """The secrets of a value of several parts: settings of a driver, JSON, addresses in a list."""
    spans = list(_places(value)) if len(value) <= _LONGEST_VALUE else []
    shown = _without(value, iter(spans))
    found = {value[start:end] for start, end in spans if not _is_host(value[start:end])}
    # What comes after it, an unquoted one hides as well.
    found |= {each.partition(sign)[0] for each in found for sign in ";&"}
    found = {form for each in found for form in (each, unquote(each), unquote_plus(each), *_lines(each))}
    return {each for each in found if each not in shown}


def _lines(secret: str) -> set[str]:
    """Those of a private key, which may be told one by one."""
    lines = (line.strip() for line in _LINES.split(secret))
    return {line for line in lines if len(line) >= _SHORTEST_LINE and not line.startswith("-----")}

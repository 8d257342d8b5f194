"""What is left out of everything that is printed, logged, tagged or kept: the secrets in addresses.

An address may hold a password, a token in place of a user, or either in its query, with slashes and other signs in it
that should have been encoded. A library that takes such an address apart prints the parts. So text is searched for
addresses, and for what this process's environment holds: its passwords and tokens, and those of the addresses in it, in
parts too. Where it is not certain what is secret, too much is left out. Every error of ours is made of such text.
"""

from __future__ import annotations

import functools
import os
import re
from urllib.parse import unquote, unquote_plus

HIDDEN = "***"
SHORTEST = 6
"""Characters of a secret that is looked for anywhere in a text; a shorter one may be a word of it."""
_SHORTEST_PART = 3

_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*"
# Several addresses may stand in a list without a space.
_ADDRESS = re.compile(rf"({_SCHEME})://((?:(?![,;|]{_SCHEME}://)[^\s'\"<>`])+)")
_WHOLE = re.compile(rf"\s*({_SCHEME})(?:://|:/?(?=[^/\s].*@))(.*)", re.DOTALL)
_QUERY = re.compile(r"(?<=[?&;#])([^=&;#?\s]+)=([^&;#\s]+)")
_SECRET_NAME = re.compile(
    r"pass|pwd|secret|token|api_?key|access_?key|sig(nature)?$|credential|auth|odbc_connect", re.IGNORECASE
)
_SECRET_VARIABLE = re.compile(
    r"(SECRET|TOKEN|PASSWORD|PASSWD|API_KEY|ACCESS_KEY|AUTH_STRING)(?!.*_(FILE|PATH|DIR)$)", re.IGNORECASE
)
_DATABASES = ("cockroachdb", "mariadb", "mssql", "mysql", "oracle", "postgres", "redshift")
# What stands beside a token that is given as the user.
_NO_PASSWORD = ("", "x-oauth-basic", "x-token-auth")
_SIGNS = re.compile(r"[@/?#:,\[\]]")


def redacted(text: str) -> str:
    """A text without the secrets of the addresses in it, `postgresql://me:***@host/db`, and of this process's own."""
    for pattern in _patterns(tuple(sorted(os.environ.items()))):
        text = pattern.sub(HIDDEN, text)
    return _ADDRESS.sub(lambda found: f"{found[1]}://{_hidden(found[1], found[2])}", text) if "://" in text else text


def redacted_address(address: str) -> str:
    """As `redacted`, of an address alone: a password may have spaces, and the slashes after the scheme be missing."""
    return redacted(_parsed(address))


def showable(error: BaseException) -> BaseException | None:
    """An error of a library's, to be the cause of one of ours; None if it, or a cause of its own, tells a secret.

    Causes are printed and logged with all that they say.
    """
    each: BaseException | None = error
    while each is not None:
        if redacted(str(each)) != str(each):
            return None
        each = each.__cause__ or each.__context__
    return error


def _parsed(address: str) -> str:
    whole = _WHOLE.fullmatch(address)
    return address if whole is None else f"{address[: whole.start(2)]}{_hidden(whole[1], whole[2])}".strip()


def without_userinfo(address: str) -> str:
    """An address without user and password."""
    whole = _WHOLE.fullmatch(address)
    return address if whole is None else f"{whole[1]}://{whole[2][_userinfo(whole[2]) :]}"


def secrets_of(address: str) -> frozenset[str]:
    """What is secret in an address, as it stands there and as it reads when it is decoded."""
    whole = _WHOLE.fullmatch(address)
    if whole is None:
        return frozenset()
    rest = whole[2]
    if _is_host(rest) and "@" in rest:
        # As likely as not a path with an `@`.
        return frozenset(_in_query(rest))
    end = _userinfo(rest)
    user, _, password = rest[: max(end - 1, 0)].partition(":")
    found = {password} if password not in _NO_PASSWORD else set() if whole[1].startswith(_DATABASES) else {user}
    return frozenset(each for value in found for each in (value, unquote(value)) if each) | _in_query(rest[end:])


def _in_query(rest: str) -> frozenset[str]:
    values = [value for name, value in _QUERY.findall(rest) if _SECRET_NAME.search(unquote(name))]
    return frozenset(each for value in values for each in (value, unquote_plus(value)) if each)


def _hidden(scheme: str, rest: str) -> str:
    end = _userinfo(rest)
    shown = ""
    if end:
        user, colon, password = rest[: end - 1].partition(":")
        plain = colon and password not in _NO_PASSWORD
        shown = f"{user}:{HIDDEN}@" if plain else f"{user}@" if scheme.startswith(_DATABASES) else f"{HIDDEN}@"
    return shown + _QUERY.sub(
        lambda found: f"{found[1]}={HIDDEN if _SECRET_NAME.search(unquote(found[1])) else found[2]}", rest[end:]
    )


def _userinfo(rest: str) -> int:
    """Where user and password end in what follows a scheme, behind their `@`; 0 where there are none.

    Slashes, `?`, `#` and `@` in a password should have been encoded, and often are not: all up to the last `@` is taken
    for it, unless that stands in a value of the query.
    """
    if rest.startswith("/"):
        # A file's path.
        return 0
    query = re.search(r"\?[^@=]*=", rest)
    before = rest[: query.start()] if query and ("@" in rest[: query.start()] or _is_host(rest)) else rest
    return before.rfind("@") + 1


def _is_host(rest: str) -> bool:
    return re.match(r"[\w.\-]+(:\d+)?[/?]|\[[0-9a-fA-F:.]+\]", rest) is not None


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

"""What this process's environment holds is left out in whatever way a program writes it, wherever it stands there."""

from __future__ import annotations

import base64
import json
import re
import shlex
import unicodedata
from collections.abc import Callable
from urllib.parse import quote

import pytest

from regiolect.errors.redaction import redacted

SECRETS = ["hunter2secret", "ab\\cdef'ghij", "p\u00e4ssw\u00f6rd99", "p@ss w/rd!x", 'a"b&c<d>e', "correcthorsebattery"]
KEY = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0B\nBKcwggSjAgEAAoIBAQC7\n-----END PRIVATE KEY-----\n"


def of_a_page(secret: str) -> str:
    for sign, name in {"&": "&amp;", "<": "&lt;", ">": "&gt;", "'": "&#39;", '"': "&#34;"}.items():
        secret = secret.replace(sign, name)
    return secret


WAYS: dict[str, Callable[[str], str]] = {
    "base64": lambda secret: base64.b64encode(secret.encode()).decode(),
    "base64 behind a user": lambda secret: base64.b64encode(f"me:{secret}".encode()).decode(),
    "base64 before others, for an address": lambda secret: base64.urlsafe_b64encode(f"\n{secret}:x".encode()).decode(),
    "base64 of what a header takes": lambda secret: base64.b64encode(f"a:{secret}".encode("latin-1")).decode(),
    "hexadecimal": lambda secret: secret.encode().hex(),
    "percent signs twice": lambda secret: quote(quote(secret, safe=""), safe=""),
    "page": of_a_page,
    "shell": shlex.quote,
    "SQL": lambda secret: "'" + secret.replace("'", "''") + "'",
    "JSON with slashes": lambda secret: json.dumps(secret, ensure_ascii=False).replace("/", "\\/"),
    "bytes of a header": lambda secret: repr(secret.encode("latin-1")),
    "decomposed": lambda secret: unicodedata.normalize("NFD", secret),
    "escaped": lambda secret: secret.encode("unicode_escape").decode().replace("\\\\", "\\"),
}


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("way", WAYS)
def test_a_secret_is_known_in_every_way_in_which_programs_write_it(
    monkeypatch: pytest.MonkeyPatch, secret: str, way: str
) -> None:
    monkeypatch.setenv("DB_PASSWORD", secret)
    told = redacted(f"sent {WAYS[way](secret)} there")
    assert told.startswith("sent ") and told.endswith(" there") and "***" in told
    # In base64 the signs at both ends are of what stands around it as well.
    assert len(re.sub(r"\*{3}|=", "", told)) <= len("sent b'' there") + (7 if "base64" in way else 0), told


@pytest.mark.parametrize(
    ("name", "value", "secrets"),
    [
        ("DB_DSN", "host=db user=me password=Pa55word1 port=5432", ["Pa55word1"]),
        ("DB_CONFIG", '{"user": "me", "password": "Pa55word1"}', ["Pa55word1"]),
        ("STORAGE", "AccountName=a;AccountKey=c2VjcmV0a2V5MTIz==;EndpointSuffix=core.example", ["c2VjcmV0a2V5MTIz=="]),
        (
            "BROKERS",
            "amqp://a:Pa55word1@one/x,amqp://b:Pa55%2Fword2@two/y",
            ["Pa55word1", "Pa55%2Fword2", "Pa55/word2"],
        ),
        ("SIGNING_PRIVATE_KEY", KEY, KEY.splitlines()[1:3]),
        ("ACCOUNT", json.dumps({"type": "x", "private_key": KEY}), KEY.splitlines()[1:3]),
        ("APP_CREDENTIALS", json.dumps({"type": "x", "private_key": KEY}), KEY.splitlines()[1:3]),
    ],
)
def test_a_secret_is_known_wherever_in_a_variable_it_stands(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, secrets: list[str]
) -> None:
    monkeypatch.setenv(name, value)
    for secret in secrets:
        assert redacted(f"refused {secret} there") == "refused *** there"


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("PIP_FIND_LINKS", "https://host.example/a https://host.example/@scope/b", "no host.example/ there"),
        ("BASH_FUNC_login%%", '() { export TOKEN="$1"; }', "login takes $1"),
        ("PS1", "me@host:/work/$ ", "me@host:/work/$ "),
    ],
)
def test_what_only_looks_like_a_variable_with_a_secret_is_cut_out_of_no_text(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str
) -> None:
    monkeypatch.setenv(name, value)
    assert redacted(text) == text

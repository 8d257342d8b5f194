"""Secrets of this process's environment: known however a program writes them, and by no accident."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from regiolect.errors.redaction import redacted


def test_what_the_environment_holds_is_known_in_any_form_and_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://me:long%20pass/word@db/mlflow")
    monkeypatch.setenv("SOME_API_KEY", "0123456789")
    monkeypatch.setenv("MYSQL_PWD", "of-the-client")
    monkeypatch.setenv("OLDPWD", "/home/of-a-user")
    monkeypatch.setenv("PREFECT_API_AUTH_STRING", "admin:an-auth-string")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", __file__)
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", "/var/run/token")
    told = "password 'long pass/word', or long%20pass/word; key 0123456789 (an-auth-string) in /var/run/token"
    assert redacted(told) == "password '***', or ***; key *** (***) in /var/run/token"
    assert redacted("of-the-client in /home/of-a-user") == "*** in /home/of-a-user"
    assert redacted(f"no such key in {__file__}") == f"no such key in {__file__}"
    # What urllib and libpq say of a password with a slash in it.
    assert redacted("Port could not be cast to integer value as 'long%20pass'").endswith("'***'")
    told = 'could not translate host name "word@db" to address'
    assert redacted(told) == told.replace("word", "***")


SECRETS = ["hunter2secret", "ab\\cdef'ghij", "pässwörd99", "p@ss w/rd!x", 'a"b&c<d>e', "correcthorsebattery"]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "written",
    [
        lambda secret: repr(f"denied for\n{secret}"),
        lambda secret: repr(b"x\r\n" + secret.encode()),
        lambda secret: repr(repr(f"x\t{secret}")),
        lambda secret: f"token \x1b[31m{secret}\x1b[0m",
        lambda secret: json.dumps({"got": f"\n{secret}"}),
        lambda secret: json.dumps({"got": secret}, ensure_ascii=False),
        lambda secret: json.dumps(json.dumps({"got": secret})),
        lambda secret: f"GET /login/{quote(secret, safe='')}",
        lambda secret: f"GET /login?a%3D{quote_plus(secret).lower()}",
        lambda secret: f"<a>{html.escape(secret)}</a>",
    ],
    ids=["repr", "bytes", "twice", "colour", "json", "letters", "json in json", "path", "query", "page"],
)
def test_what_the_environment_holds_is_known_however_a_program_writes_it(
    monkeypatch: pytest.MonkeyPatch, secret: str, written: Callable[[str], str]
) -> None:
    monkeypatch.setenv("DB_PASSWORD", secret)
    told = redacted(written(secret))
    assert "***" in told
    assert told == redacted(told)
    rest = re.sub(r"\W|[_nrtux0-9]", "", told)
    assert len(rest) < len("GETlogina3D") + 4, told


def test_a_secret_of_the_environment_stands_within_words_too_unless_it_may_be_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("A_PASSWORD", "hunter2x")
    monkeypatch.setenv("POSTGRES_PASSWORD", "postgres")
    assert redacted("idhunter2xyz at postgresql-postgres") == "id***yz at postgresql-***"


def test_a_secret_that_is_the_name_of_another_hides_it_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_PASSWORD", "password")
    assert "s3cret" not in redacted("host=db password=s3cret, 'password': 's3cret'")


@pytest.mark.parametrize(
    "name", ["SIGNING_PRIVATE_KEY", "AZURE_SUBSCRIPTION_KEY", "DB_PASS", "GITHUB_PAT", "MY_CREDENTIALS", "A_SECRET_KEY"]
)
def test_a_secret_of_the_environment_is_known_by_any_name_that_a_text_has_for_one(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "s3cret-0815")
    assert redacted("no answer to s3cret-0815") == "no answer to ***"


def test_a_password_that_the_address_shows_anyhow_is_not_cut_out_of_every_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "postgresql://postgres:postgres@db/mlflow")
    assert redacted("a postgresql server of 'postgres' at postgresql://postgres:postgres@db/mlflow") == (
        "a postgresql server of 'postgres' at postgresql://postgres:***@db/mlflow"
    )

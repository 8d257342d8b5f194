"""Each form of the table hides the secret of its own examples, leaves alone what is nearly so, and takes no minutes."""

from __future__ import annotations

import re
import time
import timeit

import pytest

from regiolect.errors.redaction import redacted
from regiolect.errors.secret_forms import BEHIND_A_NAME, BY_ITSELF, ENCODED, WORD, Form

ROWS: list[tuple[re.Pattern[str], Form]] = [
    *((re.compile(rf"(?i: {WORD} )(?:{form.pattern})(?=\S)", re.VERBOSE), form) for form in BEHIND_A_NAME),
    *((re.compile(rf"(?:{form.pattern})(?=\S)", re.VERBOSE), form) for form in (*BY_ITSELF, *ENCODED)),
]
EXAMPLES = [(pattern, example) for pattern, form in ROWS for example in form.examples]


def test_each_form_has_an_example() -> None:
    assert all(form.examples for _, form in ROWS)


@pytest.mark.parametrize(("pattern", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_a_form_leads_up_to_the_secret_of_its_examples(pattern: re.Pattern[str], example: str) -> None:
    found = pattern.search(example)
    assert found is not None, "another row finds it"
    assert re.match(r"[bru]{0,2}(true-|KEY-|<a>|[.$A\-\\'\"\[({])*(s3cret|9876)", example[found.end() :])


@pytest.mark.parametrize("example", [example for _, example in EXAMPLES])
def test_no_secret_of_an_example_is_left_and_what_names_it_is(example: str) -> None:
    shown = redacted(example)
    before, _, behind = shown.partition("***")
    assert "s3cret" not in shown and "9876" not in shown
    assert example.startswith(before) and before
    assert example.endswith(behind)
    assert redacted(shown) == shown


@pytest.mark.parametrize("other", [other for _, form in ROWS for other in form.others])
def test_what_is_nearly_so_stays(other: str) -> None:
    assert redacted(other) == other


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("pattern", "example"), EXAMPLES, ids=[example for _, example in EXAMPLES])
def test_a_form_takes_time_in_proportion_to_the_text(pattern: re.Pattern[str], example: str) -> None:
    found = pattern.search(example)
    begun = example[: found.end() if found else None]

    def seconds(times: int) -> float:
        # What is begun again and again, and what never ends.
        texts = (begun * times, example * times, f"{begun}'" * times, begun + example[-1] * times)
        return min(timeit.repeat(lambda: [*map(redacted, texts)], timer=time.process_time, number=1, repeat=2))

    # Eight times the text: a quadratic search would take 64 times as long.
    assert seconds(1_600) < 24 * seconds(200) + 0.05


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        # Brackets within brackets, to the end of the outer ones.
        ("{'passwords': [('a', 's3cret'), ['s3cret']], 'port': 1}", "{'passwords': [***], 'port': 1}"),
        ("{'credentials': {'a': {'b': 'c'}, 'd': 's3cret'}, 'x': 'y'}", "{'credentials': {***}, 'x': 'y'}"),
        ('{"api_keys": [\n  "s3cret",\n  "s3cret"\n]}', '{"api_keys": [***]}'),
        ("{'password': 'a b '\n             's3cret'}", "{'password': '***'}"),
        # Headers with quotes of their own.
        ('Authorization: Digest username="me", response="s3cret"\nHost: db', "Authorization: ***\nHost: db"),
        ('Authorization: token "s3cret"\nHost: db', "Authorization: ***\nHost: db"),
        (r'{"Authorization": "Digest r=\"s3cret\"", "a": 1}', '{"Authorization": "***", "a": 1}'),
        ("{'Authorization': 'Basic bWU6czNjcmV0==', 'a': '*'}", "{'Authorization': '***', 'a': '*'}"),
        ('<wsse:Password Type="text">s3cret</wsse:Password>', '<wsse:Password Type="text">***</wsse:Password>'),
        # What is known by its look.
        ("remote: ghp_0123456789abcdefghijABCDEFGHIJ012345 expired", "remote: *** expired"),
        ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.dozjgNryP4J3jV; no", "got ***; no"),
        (
            "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0B\n-----END PRIVATE KEY-----\nx",
            "-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\nx",
        ),
        (
            r"b'-----BEGIN RSA PRIVATE KEY-----\nMIIEvQIBADANBgkq\n-----END RSA PRIVATE KEY-----'",
            "b'-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----'",
        ),
        ("-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq cut off", "-----BEGIN PRIVATE KEY-----*** cut off"),
        ("a file that begins with -----BEGIN PRIVATE KEY-----, found text", None),
        ("-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkq\n-----END CERTIFICATE-----", None),
    ],
)
def test_what_holds_a_secret_is_left_out_whole(text: str, shown: str | None) -> None:
    assert redacted(text) == (text if shown is None else shown)
    assert redacted(redacted(text)) == redacted(text)

"""What others wrote is shown in a terminal, and none of it is obeyed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import yaml
from rich.table import Table

from regiolect.cli import audit, releases
from regiolect.cli.engine_facts import EngineView
from regiolect.cli.tables import print_engine, print_error, print_policy, print_unforeseen
from regiolect.cli.terminal import Terminal, coloured, print_failure
from regiolect.contracts import AuditedVersion, AuditResult, Drill, Failure, failure_of
from regiolect.errors import RegistryError, StoreUnreachable
from regiolect.errors.output import LAYOUT, printable, redact_output
from regiolect.network import one_line
from regiolect.policy import PolicyBook
from regiolect.settings import load_settings

EVIL = "none\x1b[2K\x1b[1A\x1b]0;owned\x07\x9b31m\u202egnp.exe\r\u2028[red]:x:"
SHOWN = r"none\u001b[2K\u001b[1A\u001b]0;owned\u0007\u009b31m\u202egnp.exe\r\u2028[red]:x:"
FAILURE = Failure(kind="RegistryError", expected=EVIL, found=f"{EVIL}\nok    all is well", remedy=EVIL)
VERSION = AuditedVersion(name=f"{EVIL}\n", version=1, aliases=(EVIL,), promoted_by=EVIL, findings=(FAILURE,))


def cells() -> None:
    table = Table(title=EVIL)
    table.add_column(EVIL, overflow="fold")
    table.add_row(EVIL)
    Terminal(width=200).print(table)


def summary() -> None:
    found = AuditResult(at=datetime.now(UTC), registry=EVIL, seconds=1, versions=(VERSION,), findings=(FAILURE,))
    audit._print_summary(Terminal(soft_wrap=True), found)


@pytest.mark.parametrize(
    "say",
    [
        lambda: print_error(RegistryError(EVIL, one_line(EVIL), EVIL)),
        lambda: print_unforeseen(ValueError(EVIL)),
        lambda: print_engine(EngineView(facts=(("name", EVIL),))),
        lambda: print_failure(Terminal(), FAILURE, EVIL),
        lambda: audit._print(Terminal(soft_wrap=True), VERSION),
        summary,
        cells,
        lambda: Terminal(soft_wrap=True).print(coloured("red", EVIL)),
    ],
    ids=["error", "unforeseen", "engine", "failure", "audit", "summary", "cells", "line"],
)
def test_what_others_wrote_is_shown_and_not_obeyed(say: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    say()
    told = "".join(capsys.readouterr())
    assert printable(told, LAYOUT) == told
    assert SHOWN in told
    assert not any(line.startswith("ok ") for line in told.splitlines()), "no line is begun by what others wrote"


def test_what_has_several_lines_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    print_failure(Terminal(), Failure(kind="A", expected="b", found="its log:\n  one\n  two", remedy="c"), "eu")
    assert capsys.readouterr().out.splitlines() == [
        "eu: A",
        "  expected  b",
        "  found     its log:",
        "              one",
        "              two",
        "  remedy    c",
    ]


@pytest.mark.parametrize(
    "found",
    [
        "[link=http://evil.example\n]approved: click[/link\n]",
        "the model takes [batch,\n 3, 8] here",
        "no kernel for [/conv1/Conv,\n /conv2/Conv]",
        "[red\n]one[/\n]",
        *("C:" + "\\" * times for times in range(1, 5)),
    ],
)
def test_brackets_are_no_markup_on_one_line_or_on_several(found: str) -> None:
    told = io.StringIO()
    print_failure(Terminal(file=told, force_terminal=True, width=200), failure_of(StoreUnreachable("a", found, "c")))
    assert "\x1b]8" not in told.getvalue(), "a link"
    assert "\x1b[31m" not in told.getvalue().partition("\n")[2], "a colour"
    for line in found.splitlines():
        assert f" {line}\n" in told.getvalue()


def test_texts_that_meet_in_a_line_make_no_markup_together() -> None:
    told = io.StringIO()
    drill = Drill(name="a", region="eu", attempt="x[link=http://evil.example", by="gate", refused=True, detail="] ok")
    releases._print_drills(Terminal(file=told, force_terminal=True, width=200), (drill,))
    assert "\x1b]8" not in told.getvalue()
    assert "x[link=http://evil.example\n    ] ok\n" in told.getvalue()


def test_json_and_yaml_that_are_printed_stay_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert json.loads(printable(json.dumps({"a": EVIL}, ensure_ascii=False, indent=1), LAYOUT)) == {"a": EVIL}
    book = PolicyBook(load_settings().policies)
    policy = book.load(book.regions()[0]).model_copy(update={"title": "north \u202egnp"})
    print_policy(policy)
    told = capsys.readouterr().out
    assert printable(told, LAYOUT) == told
    assert yaml.safe_load(told)["title"] == policy.title


@pytest.mark.parametrize(
    "sign", list("\u034f\u115f\u1160\u17b4\u17b5\u180b\u3164\uffa0\ufe0f\U000e0100\u2800\u0336\u20e5")
)
def test_what_nobody_sees_is_told_by_its_number(sign: str) -> None:
    told = printable(f"tiny{sign}-north")
    assert told.startswith("tiny\\u")
    assert json.loads(f'"{told}"') == f"tiny{sign}-north"
    assert printable("Größe e\u0301 日本 \U0001f600") == "Größe e\u0301 日本 \U0001f600"


def test_what_is_logged_is_not_obeyed_either(caplog: pytest.LogCaptureFixture) -> None:
    before = logging.getLogRecordFactory()
    redact_output()
    try:
        logging.getLogger("vendors").warning("no answer:\n\t%s", EVIL)
    finally:
        logging.setLogRecordFactory(before)
    assert caplog.messages == [f"no answer:\n\t{SHOWN}"]


def test_a_failure_is_told_of_an_error_whose_own_code_fails() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("its own code")

    assert failure_of(Mute()).found == "its text cannot be read: RuntimeError"
    assert failure_of(ValueError()).found == "ValueError()"
    assert one_line("") == ""

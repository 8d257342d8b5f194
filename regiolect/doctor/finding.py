"""What a check says, and how a check is bounded in time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from dataclasses import dataclass
from typing import Literal

from regiolect.contracts import Contract, Digest
from regiolect.errors import RegiolectError
from regiolect.errors.output import text_of
from regiolect.network import one_line

Verdict = Literal["ok", "note", "wrong"]


class Finding(Contract):
    """What a check says of one thing.

    verdict: `wrong` is in the way of a release, a nightly or a worker; `note` is worth knowing.
    remedy: what to do about it; empty where nothing has to be done.
    """

    name: str
    verdict: Verdict
    expected: str
    found: str
    remedy: str = ""


class Diagnosis(Contract):
    """All findings of one examination, and whose they are."""

    format: Literal[1] = 1
    version: str
    code: Digest
    findings: tuple[Finding, ...]


def ok(name: str, expected: str, found: str) -> Finding:
    """All is as it should be."""
    return Finding(name=name, verdict="ok", expected=expected, found=found)


def note(name: str, expected: str, found: str, remedy: str = "") -> Finding:
    """Nothing is in the way, but somebody may want to know."""
    return Finding(name=name, verdict="note", expected=expected, found=found, remedy=remedy)


def wrong(name: str, expected: str, found: str, remedy: str) -> Finding:
    """Something is in the way."""
    return Finding(name=name, verdict="wrong", expected=expected, found=found, remedy=remedy)


def told(name: str, error: RegiolectError, verdict: Verdict = "wrong") -> Finding:
    """An error as a finding."""
    # The name of the tree's root tells nothing.
    kind = "" if type(error) is RegiolectError else f"{type(error).__name__}: "
    return Finding(
        name=name, verdict=verdict, expected=error.expected, found=f"{kind}{error.found}", remedy=error.remedy
    )


@dataclass(frozen=True)
class Check:
    """Something to look at. `look` yields what it finds; an error that it raises is a finding called `name`.

    seconds: after so long it is given up; what it found until then counts.
    """

    name: str
    look: Callable[[], Iterable[Finding]]
    seconds: float = 20.0

    def findings(self) -> Iterator[Finding]:
        """What there is to say, within `seconds`."""
        findings: list[Finding] = []
        # A daemon, so that a server that never answers does not keep the process either.
        thread = threading.Thread(target=copy_context().run, args=(self._look, findings), name=self.name, daemon=True)
        thread.start()
        thread.join(self.seconds)
        hangs = thread.is_alive()
        yield from tuple(findings)
        if hangs:
            yield wrong(
                self.name,
                expected=f"an answer within {self.seconds:g} s",
                found="none",
                remedy="see whether what it talks to is overloaded or behind a firewall that drops its packets",
            )

    def _look(self, findings: list[Finding]) -> None:
        try:
            for finding in self._named():
                findings.append(finding)
        except RegiolectError as error:
            findings.append(told(self.name, error))

    def _named(self) -> Iterator[Finding]:
        try:
            yield from self.look()
        except RegiolectError:
            raise
        # A check meets other people's modules, libraries and servers: whatever they raise ends this check alone.
        except Exception as error:
            raise RegiolectError(
                expected="the check to end",
                found=f"{type(error).__name__}: {one_line(text_of(error) or 'no text')}",
                remedy="mend what it names; if that is none of yours, report it as a defect of Regiolect",
            ) from error

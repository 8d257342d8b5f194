"""Prefect, as far as this package may speak of it: what looks at a server is in `flows.deploy.checkup`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from importlib.metadata import version
from typing import Any, Protocol, cast

from regiolect.doctor.finding import Finding, note, wrong
from regiolect.network import require_prefect
from regiolect.orchestrator import flows_module
from regiolect.policy import PolicyBook
from regiolect.settings import Settings


class Checkup(Protocol):
    """What `flows.deploy.checkup` offers. Everything asks the server at PREFECT_API_URL, and changes nothing there."""

    def server(self) -> Iterable[Any]: ...
    def deployments(self, book: PolicyBook, settings: Settings) -> Iterable[Any]: ...
    def workers(self, book: PolicyBook, settings: Settings) -> Iterable[Any]: ...
    def notification(self, block: str) -> Iterable[Any]: ...


def checkup() -> Checkup:
    """What looks at a Prefect server.

    Raises:
        BackendUnavailable: Prefect, or something else that flows need, is not installed.
    """
    return cast(Checkup, flows_module("deploy.checkup"))


def embedded(settings: Settings) -> Iterator[Finding]:
    """What to say where PREFECT_API_URL names no server.

    Raises:
        BackendUnavailable: Prefect is not installed.
    """
    checkup()
    found = f"none: flows run in the process that starts them, with the embedded server of Prefect {version('prefect')}"
    if settings.build_on == "pools":
        yield wrong(
            "prefect",
            expected="a server in PREFECT_API_URL, since REGIOLECT_BUILD_ON=pools sends builds to its work pools",
            found=found,
            remedy="set PREFECT_API_URL (`regiolect up` starts a server), or unset REGIOLECT_BUILD_ON",
        )
    else:
        yield note("prefect", expected="a server in PREFECT_API_URL, for work pools, schedules and forms", found=found)
    if settings.notify:
        yield note(
            "notification",
            expected=f"the block {settings.notify!r} of REGIOLECT_NOTIFY",
            found="not looked for: an embedded server is not started for it",
        )


def server(address: str) -> Iterator[Finding]:
    """Whether a Prefect server answers at `address`, the value of PREFECT_API_URL, and fits the client.

    Raises:
        OrchestratorError: nothing answers, or it refuses the credentials.
        BackendUnavailable: Prefect is not installed here.
    """
    require_prefect(address, "unset PREFECT_API_URL to run embedded")
    yield from checkup().server()


def not_compared() -> Iterator[Finding]:
    """What to say of pools and deployments while the policies, of which they are made, are unusable."""
    yield note(
        "deployments",
        expected="to compare pools and deployments with the policies",
        found="not compared: a policy is unusable",
        remedy="mend the policies first, then: regiolect doctor",
    )

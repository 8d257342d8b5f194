"""What an audit found of everything that consumers can load."""

from __future__ import annotations

import operator
from collections import Counter
from typing import Annotated, Literal

from pydantic import AwareDatetime, Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from regiolect.contracts.base import Arithmetic, Contract, RegionId, TargetId
from regiolect.contracts.engine import place_of
from regiolect.contracts.release import Failure


def _absent(value: object) -> bool:
    return value is None


class AuditedEngine(Contract):
    """One target's engine in a version: who vouches for it, and what speaks against it."""

    target: TargetId
    arithmetic: Arithmetic | None = Field(
        default=None, exclude_if=_absent, description="class of the hosts that load it, where INT8 binds it to one"
    )
    told_by_flags: bool = Field(
        default=False, exclude_if=operator.not_, description="it is older than classes: the processor's flags tell its"
    )
    precision: str
    executed: str
    tuned: str | None = Field(default=None, exclude_if=_absent, description="what it was tuned to on its target")
    signed_by: str | None = Field(default=None, description="the key's comment and short id; None: nobody who counts")
    signed: AwareDatetime | None = None
    findings: tuple[Failure, ...] = ()

    @property
    def place(self) -> str:
        """As `BuildRequest.place`."""
        return place_of(self.target, self.arithmetic)


class AuditedVersion(Contract):
    """One version of a registered model. `findings` are those of the version as a whole."""

    name: str
    version: PositiveInt
    aliases: tuple[str, ...] = Field(description="what points at it now; nothing: it can be loaded by number alone")
    model: str | None = None
    region: RegionId | None = None
    bytes: NonNegativeInt = Field(default=0, description="hashed")
    promoted_by: str | None = Field(
        default=None, exclude_if=_absent, description="account of the person who made it champion, with the reason"
    )
    engines: tuple[AuditedEngine, ...] = ()
    findings: tuple[Failure, ...] = ()

    def all_findings(self) -> tuple[tuple[str | None, Failure], ...]:
        """Every finding with its target; None for those of the version as a whole."""
        return (
            *((None, finding) for finding in self.findings),
            *((engine.place, finding) for engine in self.engines for finding in engine.findings),
        )


class AuditResult(Contract):
    """An audit of a registry, by the policies and keys of one moment."""

    format: Literal[1] = 1
    at: AwareDatetime
    registry: str = Field(description="without its password")
    seconds: NonNegativeFloat
    versions: tuple[AuditedVersion, ...]
    findings: Annotated[tuple[Failure, ...], Field(description="of the audit as a whole")] = ()

    def summary(self) -> str:
        """`1 version of 9 with findings: 2 NoLongerAllowed`."""
        kinds = Counter(
            failure.kind
            for findings in (self.findings, *(tuple(f for _, f in v.all_findings()) for v in self.versions))
            for failure in findings
        )
        wrong = sum(bool(version.all_findings()) for version in self.versions)
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        return f"{wrong} of {len(self.versions)} versions with findings" + (f": {counts}" if counts else "")

    @property
    def clean(self) -> bool:
        """Whether nothing at all was found."""
        return not self.findings and not any(version.all_findings() for version in self.versions)

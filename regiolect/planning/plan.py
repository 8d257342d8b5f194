"""What a plan says: every region and target of a model, and what a release would do there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import Field

from regiolect.contracts import (
    Arithmetic,
    Contract,
    Decision,
    Digest,
    Failure,
    Precision,
    RegionId,
    TargetId,
    place_of,
)
from regiolect.planning.changes import Difference
from regiolect.planning.request import RegionRequest

Action = Literal["build", "rebuild", "promote", "reuse", "carry", "refuse", "retire", "drop", "skip"]
"""build: there is no engine yet. rebuild: there is one, of another build key or no longer good. promote: nothing
changed, and what the gate approved is not served. reuse: nothing changed. carry: nothing changed for an engine of a
class of arithmetic that no machine is there for; the next version has it as it is. drop: something did, and the next
version is made without it. refuse: policy, data or this machine stand in the way, or the gate's no stands because
nothing changed. retire: there is an engine that the policies no longer ask for. skip: left out of this release by its
targets."""

SUMMARY: Mapping[Action, str] = {
    "build": "to build",
    "rebuild": "to rebuild",
    "promote": "to promote",
    "reuse": "unchanged",
    "carry": "carried over",
    "refuse": "refused",
    "retire": "to retire",
    "drop": "without a machine",
    "skip": "left out",
}
_ONLY_IF_ANY = frozenset({"promote", "carry", "drop", "skip"})
HERE: tuple[Action, ...] = ("build", "rebuild", "promote", "reuse", "refuse")
"""What there is a machine for."""
WORK: tuple[Action, ...] = ("build", "rebuild", "promote", "retire")
"""What is to be done: the rest is done, stands in the way, or was left out on purpose."""


class PlannedEngine(Contract):
    """What the plan says of one region on one target, in one class of arithmetic where INT8 engines depend on that; of
    the region as a whole where its policy or data is unusable."""

    region: RegionId
    title: str
    target: TargetId | None
    arithmetic: Arithmetic | None = None
    precision: Precision | None
    action: Action
    reason: str
    differences: tuple[Difference, ...] = Field(default=(), description="what makes a rebuild of it, if the key does")
    kept: Digest | None = Field(default=None, description="build key of the engine that is there")
    request: RegionRequest | None = None
    decision: Decision | None = Field(default=None, description="what the gate said of the engine that is there")
    tuning: Digest | None = Field(default=None, description="what the engine that is there was tuned to")
    failure: Failure | None = None

    @property
    def place(self) -> str:
        """`eu cpu-x86`, `eu cpu-x86 (vnni)`, or the region alone."""
        return self.region if self.target is None else f"{self.region} {place_of(self.target, self.arithmetic)}"


class Plan(Contract):
    """Every engine that a release is asked for, and every one that nobody asks for any more."""

    address: str
    name: str
    note: str = ""
    engines: tuple[PlannedEngine, ...]
    registry: Failure | None = Field(
        default=None, description="why the registry could not be asked what is served, where that matters"
    )

    def requests(self, *actions: Action) -> tuple[RegionRequest, ...]:
        """The requests of these kinds, in the plan's order; of all that are not left out when none is named."""
        wanted = actions or (*HERE, "carry")
        return tuple(engine.request for engine in self.engines if engine.request and engine.action in wanted)

    def untouched(self, region: str) -> tuple[str, ...]:
        """Targets of a region's policy for which a release neither builds nor finds anything."""
        return tuple(
            engine.target
            for engine in self.engines
            if engine.region == region
            and engine.target is not None
            and (engine.action == "skip" or (engine.action == "refuse" and engine.request is None))
        )

    def summary(self) -> str:
        """The plan in a line, with the model's name."""
        return f"{self.name}: {summary_of(self.engines)}"


def summary_of(engines: Iterable[PlannedEngine]) -> str:
    """`3 to build, 1 to rebuild, 5 unchanged, 1 refused, 1 to retire`."""
    counts = Counter(engine.action for engine in engines)
    return ", ".join(
        f"{counts[action]} {words}" for action, words in SUMMARY.items() if counts[action] or action not in _ONLY_IF_ANY
    )


def has_work(engines: Iterable[PlannedEngine]) -> bool:
    """Whether anything is to be built, rebuilt, promoted or retired."""
    return any(engine.action in WORK for engine in engines)

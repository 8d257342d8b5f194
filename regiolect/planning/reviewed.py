"""A plan that is kept for review, and what a release would do otherwise when it is to go by it.

A release carries out nothing that such a file says: it plans anew what the file names, and works by its own plan once
that is found to be the one that was reviewed. So whatever somebody writes into a file, what comes of it is a release as
`regiolect run` makes it, or none.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, Field, ValidationError

from regiolect.contracts import Contract, Digest, RegionId, RegisteredEngine, SourceFiles, place_of, short
from regiolect.errors import InvalidPlan, OutdatedPlan, UnknownModel, UsageError
from regiolect.host.files import RECORD, cannot_read, read_file
from regiolect.integrity import parse_json, write_atomic
from regiolect.model import ModelSpec
from regiolect.planning.address import address_given
from regiolect.planning.asked import Names, ReleaseRequest, names_given
from regiolect.planning.changes import Sources, differences_between
from regiolect.planning.document import EngineEntry, entry_of
from regiolect.planning.many import ModelPlan
from regiolect.planning.plan import Plan, PlannedEngine, summary_of
from regiolect.planning.request import parts_of
from regiolect.policy import RegionPolicy

_KIND: Literal["regiolect plan"] = "regiolect plan"
_FORMAT: Literal[1] = 1
_BUILDS = ("build", "rebuild")


class ReviewedEngine(EngineEntry):
    """What is planned of an engine, and what its build key is made of."""

    tuning: Digest | None = Field(description="what the engine that is there was tuned to")
    key_parts: Mapping[str, str] = Field(description="empty where nothing is asked for")

    @property
    def place(self) -> str:
        """As `PlannedEngine.place`."""
        return self.region if self.target is None else f"{self.region} {place_of(self.target, self.arithmetic)}"


class ReviewedPlan(Contract):
    """One model's plan, with all that it is bound to: what was asked for, what the build keys are made of, the
    registry, and what that serves."""

    kind: Literal["regiolect plan"] = _KIND
    format: Literal[1] = _FORMAT
    made: AwareDatetime
    asked: ReleaseRequest
    name: str = Field(description="the model's")
    summary: str
    engines: tuple[ReviewedEngine, ...]
    registry: str = Field(description="its address, without secrets")
    served: Mapping[RegionId, RegisteredEngine] = Field(description="champions of the plan's regions that have one")
    policies: Mapping[Digest, RegionPolicy] = Field(description="by the digests that build keys hold")
    files: Mapping[Digest, SourceFiles] = Field(
        description="files and sets of model, data and metric, by the digests that build keys hold"
    )

    @property
    def sources(self) -> Sources:
        """What the digests in its build keys stand for."""
        return Sources(policy=self.policies.get, files=self.files.get)


def planned_alone(plans: Sequence[ModelPlan]) -> Plan:
    """The plan of the one model that was planned.

    Raises:
        UsageError: there are several: a release is of one.
    """
    if len(plans) == 1 and plans[0].plan is not None:
        return plans[0].plan
    raise UsageError(
        expected="one model in a plan that is kept for `regiolect run --plan`, which releases one",
        found=f"{len(plans)}: {', '.join(each.address for each in plans)}",
        remedy="name one of them, and keep a file for each",
    )


def to_review(
    asked: ReleaseRequest, plan: Plan, champions: Mapping[str, RegisteredEngine], registry: str
) -> ReviewedPlan:
    """A plan with all that it is bound to.

    Args:
        asked: what it is a plan of.
        champions: what the registry serves, by registered name.
        registry: its address, without secrets.
    """
    served = {region: champions.get(f"{plan.name}-{region}") for region in _regions(plan.engines)}
    requests = [engine.request for engine in plan.engines if engine.request is not None]
    return ReviewedPlan(
        made=datetime.now(UTC),
        asked=asked,
        name=plan.name,
        summary=summary_of(plan.engines),
        engines=tuple(map(_engine, plan.engines)),
        registry=registry,
        served={region: champion for region, champion in served.items() if champion is not None},
        policies={request.key_parts["policy"]: request.policy for request in requests},
        files={part.digest: part for request in requests for part in parts_of(request).values()},
    )


def write_plan(file: Path, plan: ReviewedPlan) -> None:
    """Write a plan that `read_plan` reads, whole or not at all. Raises StorageError if it cannot be written."""
    write_atomic(file, (plan.model_dump_json(indent=2) + "\n").encode())


def read_plan(file: Path) -> ReviewedPlan:
    """The plan that `write_plan` wrote.

    Raises:
        InvalidPlan: there is none, it is no plan, or one of another format.
    """
    try:
        content = parse_json(read_file(file, RECORD))
    except OSError as error:
        raise _invalid(file, cannot_read(error), "name the file that was reviewed") from error
    except ValueError as error:
        raise _invalid(file, f"what is no JSON: {error}") from error
    kind, version = (content.get(name) if isinstance(content, dict) else None for name in ("kind", "format"))
    if kind != _KIND:
        raise _invalid(file, "JSON of another kind")
    if version != _FORMAT:
        raise _invalid(file, f"one of format {version!r}", "let the Regiolect that wrote it run it, or plan again")
    try:
        return ReviewedPlan.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        raise _invalid(file, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def asked_for(
    model: ModelSpec | str | None, regions: Names, targets: Names, force: bool, reviewed: ReviewedPlan | None
) -> ReleaseRequest:
    """What is asked for: by name, or by a plan that says it all, beside which its model may be named.

    Raises:
        UnknownModel, InvalidModelSpec, ChangedMeanwhile: as `address_given`.
        UsageError: there are no names in `regions` or `targets`, some are named beside a plan, or that is of another
            model.
    """
    if reviewed is None:
        if model is None:
            raise UnknownModel(
                expected="a model to release, or a plan that was reviewed",
                found="neither",
                remedy="regiolect run MODEL, or regiolect run --plan FILE",
            )
        named, wanted = names_given("regions", regions), names_given("targets", targets)
        return ReleaseRequest.of(address_given(model), named, wanted, force=force)
    if force or regions is not None or targets is not None:
        raise UsageError(
            expected="a plan that was reviewed, and no regions, targets or force beside it",
            found="both",
            remedy="leave them out: the plan is of what it was asked for; else plan again",
        )
    address = address_given(reviewed.asked.address if model is None else model)
    if address != reviewed.asked.address:
        raise UsageError(
            expected=f"a plan of {address}",
            found=f"one of {reviewed.asked.address}",
            remedy="name the file of the model's own plan, or the plan's own model",
        )
    return reviewed.asked


def require_as_reviewed(reviewed: ReviewedPlan, now: ReviewedPlan) -> None:
    """Raises OutdatedPlan unless a release would do now what was reviewed.

    What was reviewed and is done already, by a release that was interrupted for one, is no difference.
    """
    differing = [*_registries(reviewed, now), *_engines(reviewed, now), *_champions(reviewed, now)]
    if differing:
        raise OutdatedPlan(
            expected=f"to do what was planned for {reviewed.name} at {reviewed.made:%Y-%m-%d %H:%M} UTC, and no more",
            found="\n".join(differing),
            remedy=f"plan again, and review what differs: regiolect plan {reviewed.asked.address} --out FILE",
        )


def _engine(engine: PlannedEngine) -> ReviewedEngine:
    parts = engine.request.key_parts if engine.request is not None else {}
    return ReviewedEngine(**dict(entry_of(engine)), tuning=engine.tuning, key_parts=parts)


def _regions(engines: Sequence[PlannedEngine]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(engine.region for engine in engines if engine.action != "retire"))


def _registries(reviewed: ReviewedPlan, now: ReviewedPlan) -> Iterator[str]:
    if reviewed.registry != now.registry:
        yield f"registry: {reviewed.registry}, now {now.registry}"


def _engines(reviewed: ReviewedPlan, now: ReviewedPlan) -> Iterator[str]:
    # No command retires what a plan names to be retired.
    then, today = (
        {engine.place: engine for engine in plan.engines if engine.action != "retire"} for plan in (reviewed, now)
    )
    for place in dict.fromkeys([*then, *today]):
        before, after = then.get(place), today.get(place)
        if before is None:
            yield f"{place}: not planned then, now {today[place].action}: {today[place].reason}"
        elif after is None:
            yield f"{place}: planned as {before.action}, not planned now"
        elif _work(before) != _work(after) and not _is_done(before, after):
            changed = differences_between(before.key_parts, after.key_parts, reviewed.sources, now.sources)
            yield f"{place}: {_words(before, after, ', '.join(each.words for each in changed))}"


def _work(engine: ReviewedEngine) -> tuple[object, ...]:
    """What a release would do of an engine. In place of which other one it builds is no part of that: the champion is
    held against the plan by itself."""
    if engine.action in _BUILDS:
        return "build", engine.build_key
    failure = engine.failure.kind if engine.failure is not None else None
    return engine.action, engine.build_key, engine.kept, engine.tuning, failure


def _is_done(before: ReviewedEngine, after: ReviewedEngine) -> bool:
    """Whether what was to be built or promoted is there."""
    tuning = before.tuning if before.action == "promote" else None
    is_there = after.action not in _BUILDS and (after.kept, after.tuning) == (before.build_key, tuning)
    return before.action in (*_BUILDS, "promote") and is_there


def _words(before: ReviewedEngine, after: ReviewedEngine, changed: str) -> str:
    action = before.action if before.action == after.action else f"{before.action}, now {after.action}"
    if changed and before.key_parts and after.key_parts:
        return f"{action}; changed: {changed}"
    if before.action == after.action and before.kept and after.kept and before.kept != after.kept:
        return f"{action} of another engine: build {short(after.kept)}, planned {short(before.kept)}"
    if before.action == after.action and before.tuning != after.tuning:
        return f"{action} of an engine that was tuned since"
    return f"{action}: {after.reason}"


def _champions(reviewed: ReviewedPlan, now: ReviewedPlan) -> Iterator[str]:
    """Regions whose consumers load something else than what the plan was reviewed beside, and not what it makes."""
    own = {engine.build_key for engine in reviewed.engines}
    for region in dict.fromkeys([*reviewed.served, *now.served]):
        before, after = reviewed.served.get(region), now.served.get(region)
        is_own = after is not None and own.issuperset(after.build_keys)
        if _version(before) != _version(after) and not is_own:
            yield f"{region}: serves {_version(after)[0]}, planned beside {_version(before)[0]}"


def _version(champion: RegisteredEngine | None) -> tuple[str, str | None]:
    return ("nothing", None) if champion is None else (champion.uri, champion.bundle)


def _invalid(file: Path, found: str, remedy: str = "plan again: regiolect plan MODEL --out FILE") -> InvalidPlan:
    expected = f"a plan of format {_FORMAT} at {file}, as `plan --out` writes it"
    return InvalidPlan(expected=expected, found=found, remedy=remedy)

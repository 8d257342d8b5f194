"""A plan as `regiolect plan --json` prints it: for programs, and the same bytes for the same state of things."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, NonNegativeInt

from regiolect.contracts import Arithmetic, Contract, Decision, Digest, Failure, Precision, RegionId, TargetId
from regiolect.planning.changes import Difference
from regiolect.planning.many import ModelPlan
from regiolect.planning.plan import SUMMARY, Action, PlannedEngine, has_work


def _absent(value: object) -> bool:
    return value is None


class EngineEntry(Contract):
    """One region on one target, in one class of arithmetic if it is for one; target, backend and precision are None
    where the region as a whole is meant."""

    region: RegionId
    title: str
    target: TargetId | None
    arithmetic: Arithmetic | None = Field(
        default=None, exclude_if=operator.not_, description="class of the machines that it is for, where that matters"
    )
    backend: str | None
    precision: Precision | None
    action: Action
    reason: str
    differences: tuple[Difference, ...]
    build_key: Digest | None = Field(description="what a release would build, or finds; None: nothing is asked for")
    kept: Digest | None = Field(description="build key of the engine that is there; None: there is none")
    decision: Decision | None = Field(description="the gate's, on the engine that is there")
    failure: Failure | None


class ModelEntry(Contract):
    """One model; `name` and `engines` are empty where `failure` says why it cannot be planned."""

    model: str
    name: str
    note: str
    failure: Failure | None
    registry: Failure | None = Field(
        default=None,
        exclude_if=_absent,
        description="why the registry could not be asked what is served, where that matters",
    )
    engines: tuple[EngineEntry, ...]


class PlanDocument(Contract):
    """The whole plan. Models come in the order asked for; their regions in that order or else by name, targets as the
    policy lists them, and what is to be retired last."""

    format: Literal[1] = 1
    work: bool = Field(description="whether anything is to be built, rebuilt, promoted or retired")
    summary: Mapping[Action, NonNegativeInt] = Field(description="engines by action; every action is there")
    models: tuple[ModelEntry, ...]


def document_of(plans: Sequence[ModelPlan]) -> PlanDocument:
    """The plans as one document."""
    engines = engines_of(plans)
    counts = Counter(engine.action for engine in engines)
    return PlanDocument(
        work=has_work(engines),
        summary={action: counts[action] for action in SUMMARY},
        models=tuple(map(_model, plans)),
    )


def engines_of(plans: Iterable[ModelPlan]) -> tuple[PlannedEngine, ...]:
    """Every planned engine of every model."""
    return tuple(engine for each in plans if each.plan is not None for engine in each.plan.engines)


def _model(planned: ModelPlan) -> ModelEntry:
    plan = planned.plan
    return ModelEntry(
        model=planned.address,
        name=plan.name if plan else "",
        note=plan.note if plan else "",
        failure=planned.failure,
        registry=plan.registry if plan else None,
        engines=tuple(map(entry_of, plan.engines)) if plan else (),
    )


def entry_of(engine: PlannedEngine) -> EngineEntry:
    """What the plan says of an engine, without what only a release needs."""
    request = engine.request
    return EngineEntry(
        region=engine.region,
        title=engine.title,
        target=engine.target,
        arithmetic=engine.arithmetic,
        backend=request.target.backend if request else None,
        precision=engine.precision,
        action=engine.action,
        reason=engine.reason,
        differences=engine.differences,
        build_key=request.build_key if request else None,
        kept=engine.kept,
        decision=engine.decision,
        failure=engine.failure,
    )

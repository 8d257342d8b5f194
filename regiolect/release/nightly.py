"""The night's work over all models: what has to be released, and what is left alone."""

from __future__ import annotations

from collections.abc import Sequence

from regiolect.contracts import Contract, Trouble
from regiolect.planning import Installation, ModelPlan, Plan, ReleaseRequest, plan_models


class ModelWork(Contract):
    """The regions of a model that have to be released tonight."""

    address: str
    regions: tuple[str, ...]


def plan_night(
    models: Sequence[str], here: Installation, regions: Sequence[str] | None = None, *, at_once: int = 1
) -> tuple[ModelPlan, ...]:
    """Plan every model. One that cannot be planned is told and stops no other; one without data here is left out.

    Args:
        models: addresses of ModelSpecs.
        here: as for `plan_release`.
        regions: default: every region that has a policy.
        at_once: models planned side by side; worth more than one where the stores are far and a plan mostly waits.
    """
    asked = regions or here.policies.regions()
    return plan_models([ReleaseRequest.of(model, asked) for model in models], here, at_once=at_once)


def work_of(plans: Sequence[ModelPlan]) -> tuple[ModelWork, ...]:
    """What has to be released: regions with an engine to build, or with an approved one that is not served."""
    work = [
        ModelWork(address=planned.address, regions=regions)
        for planned in plans
        if planned.plan is not None and (regions := _regions_with_work(planned.plan))
    ]
    return tuple(work)


def _regions_with_work(plan: Plan) -> tuple[str, ...]:
    waiting = [engine.region for engine in plan.engines if engine.action in ("build", "rebuild", "promote")]
    return tuple(dict.fromkeys(waiting))


def troubles_of(plans: Sequence[ModelPlan]) -> tuple[Trouble, ...]:
    """Models and regions that cannot be released at all, each with its remedy."""
    whole = [Trouble(model=p.address, region=None, failure=p.failure) for p in plans if p.failure is not None]
    parts = [
        Trouble(model=planned.plan.name, region=engine.region, failure=engine.failure)
        for planned in plans
        if planned.plan is not None
        for engine in planned.plan.engines
        if engine.failure is not None
    ]
    unknown = next((planned.plan.registry for planned in plans if planned.plan and planned.plan.registry), None)
    return (*whole, *parts, *([Trouble(model="all", region=None, failure=unknown)] if unknown else []))

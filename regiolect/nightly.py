"""The night's work over all models: what has to be released, and what is left alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from regiolect.contracts import Contract, Decision, RegisteredEngine, Trouble
from regiolect.planning import ModelPlan, Plan, PlannedEngine, Stores, plan_models
from regiolect.policy import PolicyBook


class ModelWork(Contract):
    """The regions of a model that have to be released tonight."""

    model: str
    regions: tuple[str, ...]


def plan_night(
    models: Sequence[str],
    policies: PolicyBook,
    stores: Stores,
    regions: Sequence[str] | None = None,
    *,
    on_pools: bool = False,
    at_once: int = 1,
) -> tuple[ModelPlan, ...]:
    """Plan every model. One that cannot be planned is told and stops no other; one without data here is left out.

    Args:
        models: addresses of ModelSpecs.
        regions: default: every region that has a policy.
        at_once: models planned side by side; worth more than one where the stores are far and a plan mostly waits.
    """
    return plan_models(models, policies, stores, regions or policies.regions(), on_pools=on_pools, at_once=at_once)


def work_of(plans: Sequence[ModelPlan], champions: Mapping[str, RegisteredEngine] | None) -> tuple[ModelWork, ...]:
    """What has to be released: regions with an engine to build, or with an approved one that is not served.

    Args:
        champions: by registered name; None when the registry cannot be asked, and then only what is to be built counts.
    """
    work = [
        ModelWork(model=planned.model, regions=regions)
        for planned in plans
        if planned.plan is not None and (regions := tuple(_regions_with_work(planned.plan, champions)))
    ]
    return tuple(work)


def _regions_with_work(plan: Plan, champions: Mapping[str, RegisteredEngine] | None) -> Iterator[str]:
    for region in dict.fromkeys(engine.region for engine in plan.engines):
        engines = [engine for engine in plan.engines if engine.region == region]
        unserved = champions is not None and not _is_served(engines, champions.get(f"{plan.name}-{region}"))
        if unserved or any(engine.action in ("build", "rebuild") for engine in engines):
            yield region


def _is_served(engines: Sequence[PlannedEngine], champion: RegisteredEngine | None) -> bool:
    approved = {(e.kept, e.tuning) for e in engines if e.action == "reuse" and e.decision is Decision.APPROVED}
    # An engine that was tuned since is another bundle under the same build key.
    served = {(key, champion.tuning_of(key)) for key in champion.build_keys} if champion else set()
    return approved <= served


def troubles_of(plans: Sequence[ModelPlan]) -> tuple[Trouble, ...]:
    """Models and regions that cannot be released at all, each with its remedy."""
    whole = [Trouble(model=p.model, region=None, failure=p.failure) for p in plans if p.failure is not None]
    parts = [
        Trouble(model=planned.plan.name, region=engine.region, failure=engine.failure)
        for planned in plans
        if planned.plan is not None
        for engine in planned.plan.engines
        if engine.failure is not None
    ]
    return (*whole, *parts)

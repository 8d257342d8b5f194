"""The night's work over all models: what has to be released, and what is left alone."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from regiolect.contracts import Contract, Decision, Failure, RegisteredEngine, Trouble, failure_of
from regiolect.errors import RegiolectError, StorageError
from regiolect.model import load_model_spec
from regiolect.planning import Plan, PlannedEngine, Stores, plan_release
from regiolect.policy import PolicyBook
from regiolect.storage import Store


class ModelPlan(Contract):
    """One model's plan, or why there is none."""

    model: str
    plan: Plan | None
    failure: Failure | None = None


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
    everywhere, opened = regions or policies.regions(), _refused_once(stores)
    with ThreadPoolExecutor(at_once) as pool:
        plans = pool.map(lambda model: _plan_model(model, policies, opened, everywhere, on_pools), models)
        return tuple(plan for plan in plans if plan is not None)


def _plan_model(
    model: str, policies: PolicyBook, stores: Stores, regions: Sequence[str], on_pools: bool
) -> ModelPlan | None:
    try:
        spec = load_model_spec(model)
        # A region that nobody knows is for the plan to refuse by its name.
        here = [region for region in regions if region in spec.data or region not in policies.regions()]
        plan = plan_release(model, spec, policies, stores, here, on_pools=on_pools) if here else None
    except RegiolectError as error:
        return ModelPlan(model=model, plan=None, failure=failure_of(error))
    return None if plan is None else ModelPlan(model=model, plan=plan)


def _refused_once(stores: Stores) -> Stores:
    """A store that cannot be opened is waited for once, and not again for every model."""
    refused: dict[str, StorageError] = {}
    alone = threading.Lock()

    def opened(region: str) -> Store:
        with alone:
            if region in refused:
                raise refused[region]
            try:
                return stores(region)
            except StorageError as error:
                refused[region] = error
                raise

    return opened


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
        if unserved or any(engine.action == "build" for engine in engines):
            yield region


def _is_served(engines: Sequence[PlannedEngine], champion: RegisteredEngine | None) -> bool:
    approved = {e.request.build_key for e in engines if e.request and e.decision is Decision.APPROVED}
    return approved <= set(champion.build_keys if champion else ())


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

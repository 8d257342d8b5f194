"""Plans of several models, made in one look at files, stores and machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import replace

from regiolect.contracts import Contract, Failure, failure_of
from regiolect.errors import RegiolectError, StorageError, UnknownModel, UnknownRegion
from regiolect.planning.address import load_model_spec
from regiolect.planning.asked import Installation, ReleaseRequest, Stores
from regiolect.planning.plan import Plan
from regiolect.planning.release import plan_here, plan_whatever_targets, require_known
from regiolect.planning.served import Champions
from regiolect.scoped_cache import one_look
from regiolect.settings import Settings
from regiolect.storage import Store


class ModelPlan(Contract):
    """One model's plan, or why there is none."""

    address: str
    plan: Plan | None
    failure: Failure | None = None


def plan_models(requests: Sequence[ReleaseRequest], here: Installation, *, at_once: int = 1) -> tuple[ModelPlan, ...]:
    """Plan every model, in their order. One that cannot be planned is told and stops no other.

    Every file is read once, in this very call, however many models and regions share it.

    Args:
        requests: one a model. Where it names regions, a model without data in any of them is left out; a target that it
            names need not be the model's own.
        here: as for `plan_release`.
        at_once: models planned side by side; worth more than one where the stores are far and a plan mostly waits.

    Raises:
        UnknownTarget: no policy of these models' regions has a named target.
    """
    with_policy, here = here.policies.regions(), replace(here, stores=_shared(here.stores))

    def planned(asked: ReleaseRequest) -> ModelPlan | None:
        try:
            spec = load_model_spec(asked.address)
            # A region that nobody knows is for the plan to refuse by its name.
            regions = tuple(region for region in asked.regions if region in spec.data or region not in with_policy)
            if asked.regions and not regions:
                return None
            plan = plan_whatever_targets(asked.model_copy(update={"regions": regions}), spec, here)
            return ModelPlan(address=asked.address, plan=plan)
        except RegiolectError as error:
            return ModelPlan(address=asked.address, plan=None, failure=failure_of(error))

    with one_look(), ThreadPoolExecutor(at_once) as pool:
        # Each thread works in a copy of this context, so that all of them share the look.
        futures = [pool.submit(copy_context().run, planned, asked) for asked in requests]
        plans = tuple(plan for future in futures if (plan := future.result()) is not None)
    targets = dict.fromkeys(target for asked in requests for target in asked.targets)
    require_known(tuple(targets), [engine for each in plans if each.plan for engine in each.plan.engines])
    return plans


def plan_models_here(
    settings: Settings,
    models: Sequence[str],
    regions: Sequence[str] | None,
    *,
    targets: Sequence[str] | None,
    force: bool,
    champions: Champions | None = None,
) -> tuple[ModelPlan, ...]:
    """Plans of these models, or of all that this installation knows, with its policies and stores.

    Args:
        models: their addresses.
        regions, targets, force: as of a ReleaseRequest.
        champions: as of an Installation.

    Raises:
        UnknownModel: no model is named, and none is known; or the only one is not found.
        UnknownRegion: there is no such policy, or no model has data of these regions.
        InvalidModelSpec, UnknownTarget, PolicyError.
    """
    addresses = tuple(dict.fromkeys(models or settings.known_models()))
    requests = [ReleaseRequest.of(address, regions, targets, force=force) for address in addresses]
    if not requests:
        raise UnknownModel(
            expected="models to plan",
            found="none named, none in regiolect.toml or REGIOLECT_MODELS, no entry point of group regiolect.models",
            remedy='regiolect plan package.module:NAME, or model = "package.module:NAME" in regiolect.toml',
        )
    if len(requests) == 1:
        with one_look():
            plan = plan_here(settings, requests[0], everywhere=True, champions=champions)
        return (ModelPlan(address=plan.address, plan=plan),)
    here = Installation.of(settings, everywhere=True, champions=champions)
    for region in regions or ():
        if region not in here.policies.regions():
            here.policies.load(region)
    plans = plan_models(requests, here, at_once=settings.plans_at_once)
    if not plans:
        raise UnknownRegion(
            expected=f"a model with data of {', '.join(regions or ())}",
            found=f"{len(requests)} models, none of which has any",
            remedy="name other regions, or add the region to a model's `data`",
        )
    return plans


def _shared(stores: Stores) -> Stores:
    """A store is opened once, not again for every model; one that cannot be opened is waited for once."""
    stores_by_region: dict[str, Store | StorageError] = {}
    alone = threading.Lock()

    def opened(region: str) -> Store:
        with alone:
            if region not in stores_by_region:
                try:
                    stores_by_region[region] = stores(region)
                except StorageError as error:
                    stores_by_region[region] = error
            store = stores_by_region[region]
        if isinstance(store, StorageError):
            raise store
        return store

    return opened

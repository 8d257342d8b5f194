"""Plans of several models, made in one look at files, stores and machine."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

from regiolect.contracts import Contract, Failure, failure_of
from regiolect.errors import RegiolectError, StorageError, UnknownModel, UnknownRegion
from regiolect.model import load_model_spec
from regiolect.planning.plan import Plan
from regiolect.planning.release import Stores, plan_here, plan_whatever_targets, require_known
from regiolect.planning.retired import FindStore
from regiolect.planning.served import Champions
from regiolect.policy import PolicyBook
from regiolect.scoped_cache import one_look
from regiolect.settings import Settings
from regiolect.storage import Store


class ModelPlan(Contract):
    """One model's plan, or why there is none."""

    model: str
    plan: Plan | None
    failure: Failure | None = None


def plan_models(
    models: Sequence[str],
    policies: PolicyBook,
    stores: Stores,
    regions: Sequence[str] | None = None,
    *,
    targets: Sequence[str] | None = None,
    force: bool = False,
    on_pools: bool = False,
    at_once: int = 1,
    elsewhere: FindStore | None = None,
    champions: Champions | None = None,
) -> tuple[ModelPlan, ...]:
    """Plan every model, in their order. One that cannot be planned is told and stops no other.

    Every file is read once, in this very call, however many models and regions share it.

    Args:
        models: addresses of ModelSpecs.
        regions: default: of each model, every region that has a policy and data of the model's. Where regions are
            named, a model without data in any of them is left out.
        at_once: models planned side by side; worth more than one where the stores are far and a plan mostly waits.
        targets, force, on_pools, elsewhere, champions: as for `plan_release`; but a target need not be every model's.

    Raises:
        UnknownTarget: no policy of these models' regions has a named target.
    """
    opened, known = _asked_once(stores), policies.regions()

    def planned(model: str) -> ModelPlan | None:
        try:
            spec = load_model_spec(model)
            # A region that nobody knows is for the plan to refuse by its name.
            here = [region for region in regions or () if region in spec.data or region not in known]
            if regions and not here:
                return None
            return ModelPlan(
                model=model,
                plan=plan_whatever_targets(
                    model,
                    spec,
                    policies,
                    opened,
                    here,
                    targets=targets,
                    force=force,
                    on_pools=on_pools,
                    elsewhere=elsewhere,
                    champions=champions,
                ),
            )
        except RegiolectError as error:
            return ModelPlan(model=model, plan=None, failure=failure_of(error))

    with one_look(), ThreadPoolExecutor(at_once) as pool:
        # Each thread works in a copy of this context, so that all of them share the look.
        asked = [pool.submit(copy_context().run, planned, model) for model in models]
        plans = tuple(plan for future in asked if (plan := future.result()) is not None)
    require_known(targets or (), [engine for each in plans if each.plan for engine in each.plan.engines])
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

    Raises:
        UnknownModel: no model is named, and none is known; or the only one is not found.
        UnknownRegion: there is no such policy, or no model has data of these regions.
        InvalidModelSpec, UnknownTarget, PolicyError.
    """
    named = tuple(dict.fromkeys(models or settings.known_models()))
    if not named:
        raise UnknownModel(
            expected="models to plan",
            found="none named, none in REGIOLECT_MODELS, no entry point of group regiolect.models",
            remedy="regiolect plan package.module:NAME, or REGIOLECT_MODELS=package.module:NAME,...",
        )
    if len(named) == 1:
        with one_look():
            plan = plan_here(
                settings, named[0], regions, targets=targets, force=force, everywhere=True, champions=champions
            )
        return (ModelPlan(model=named[0], plan=plan),)
    policies = PolicyBook(settings.policies)
    for region in regions or ():
        if region not in policies.regions():
            policies.load(region)
    plans = plan_models(
        named,
        policies,
        settings.store,
        regions,
        targets=targets,
        force=force,
        on_pools=settings.on_pools,
        at_once=settings.plans_at_once,
        elsewhere=settings.find_store,
        champions=champions,
    )
    if not plans:
        raise UnknownRegion(
            expected=f"a model with data of {', '.join(regions or ())}",
            found=f"{len(named)} models, none of which has any",
            remedy="name other regions, or add the region to a model's `data`",
        )
    return plans


def _asked_once(stores: Stores) -> Stores:
    """A store is opened once, not again for every model; one that cannot be opened is waited for once."""
    found: dict[str, Store | StorageError] = {}
    alone = threading.Lock()

    def opened(region: str) -> Store:
        with alone:
            if region not in found:
                try:
                    found[region] = stores(region)
                except StorageError as error:
                    found[region] = error
            store = found[region]
        if isinstance(store, StorageError):
            raise store
        return store

    return opened

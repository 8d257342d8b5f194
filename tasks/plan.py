"""What is asked for against what the stores hold."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.model import load_model_spec
from regiolect.planning import Plan, plan_release
from regiolect.policy import PolicyBook
from regiolect.settings import load_settings


@task(name="plan", cache_policy=NO_CACHE)
def plan(model: str, regions: tuple[str, ...], targets: tuple[str, ...], force: bool) -> Plan:
    settings = load_settings()
    return plan_release(
        model,
        load_model_spec(model),
        PolicyBook(settings.policies),
        settings.store,
        regions,
        targets=targets,
        force=force,
        on_pools=settings.on_pools,
    )

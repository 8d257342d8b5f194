"""What is asked for against what the stores hold."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.errors.output import raising_no_secret
from regiolect.planning import Plan, plan_here
from regiolect.registry import Registry
from regiolect.settings import load_settings


@task(name="plan", cache_policy=NO_CACHE)
def plan(model: str, regions: tuple[str, ...], targets: tuple[str, ...], force: bool) -> Plan:
    settings = load_settings()
    registry = Registry.of(settings)
    with raising_no_secret():
        return plan_here(settings, model, regions, targets=targets, force=force, champions=registry.champions)

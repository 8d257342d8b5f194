"""What is asked for against what the stores hold."""

from __future__ import annotations

from prefect import task
from prefect.cache_policies import NO_CACHE

from regiolect.errors.output import raising_no_secret
from regiolect.planning import Plan, ReleaseRequest, plan_here, take_plan
from regiolect.registry import Registry
from regiolect.settings import load_settings


@task(name="plan", cache_policy=NO_CACHE)
def plan(asked: ReleaseRequest) -> Plan:
    settings = load_settings()
    with raising_no_secret():
        return take_plan(asked) or plan_here(settings, asked, champions=Registry.of(settings).champions)

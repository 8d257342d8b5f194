"""What the nightly adds to releases: the plan over all models, what is served, and the digest."""

from __future__ import annotations

import asyncio
import inspect

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.blocks.abstract import NotificationBlock
from prefect.blocks.core import Block
from prefect.cache_policies import NO_CACHE

from regiolect import report
from regiolect.contracts import NightlyResult
from regiolect.errors import InvalidSetting
from regiolect.planning import Installation, ModelPlan
from regiolect.registry import Registry
from regiolect.release import nightly
from regiolect.settings import load_settings


@task(name="plan all models", tags=["registry"], cache_policy=NO_CACHE)
def plan_night(models: tuple[str, ...], regions: tuple[str, ...]) -> tuple[ModelPlan, ...]:
    settings = load_settings()
    here = Installation.of(settings, champions=Registry.of(settings).champions)
    return nightly.plan_night(models, here, regions, at_once=settings.plans_at_once)


@task(name="write digest", cache_policy=NO_CACHE)
def write_digest(result: NightlyResult) -> NightlyResult:
    return report.write_digest(result, load_settings().home / "reports")


@task(name="link digest", cache_policy=NO_CACHE)
def link_digest(result: NightlyResult) -> None:
    create_markdown_artifact(
        report.markdown_digest(result), key="nightly-digest", description=report.digest_line(result)
    )


@task(name="notify", cache_policy=NO_CACHE)
def notify(block: str, result: NightlyResult) -> None:
    """Send the digest through a notification block of Prefect's, named as `type/name`."""
    loaded = Block.load(block)
    if not isinstance(loaded, NotificationBlock):
        raise InvalidSetting(
            expected=f"a notification block in REGIOLECT_NOTIFY={block}",
            found=f"a block of type {type(loaded).__name__}",
            remedy="name one such as slack-webhook/ops; `prefect block ls` lists what the server has",
        )
    # Prefect's own blocks send at once when called from a task; a block that follows the interface alone is awaited.
    sending: object = loaded.notify(report.markdown_digest(result), subject=report.digest_line(result))
    if inspect.iscoroutine(sending):
        asyncio.run(sending)

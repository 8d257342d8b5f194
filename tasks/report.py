"""The run's report: written, linked in Prefect, and kept with MLflow."""

from __future__ import annotations

from pathlib import Path

from prefect import task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE

from regiolect import report
from regiolect.contracts import RegionOutcome, ReleaseResult
from regiolect.registry import Registry
from regiolect.settings import load_settings


@task(name="write report", cache_policy=NO_CACHE)
def write_report(result: ReleaseResult, outcomes: tuple[RegionOutcome, ...]) -> ReleaseResult:
    settings = load_settings()
    return report.write_report(result, outcomes, settings.home / "reports", report.layers_of(outcomes, settings.store))


@task(name="link report", cache_policy=NO_CACHE)
def link_report(result: ReleaseResult) -> None:
    # A link to a file of this machine would lead the browser nowhere.
    page = f"`{result.report}` on the machine of this run, and in MLflow under `regiolect/{result.model}`"
    create_markdown_artifact(
        f"{report.markdown_table(result)}\n\nThe page with all of it: {page}.",
        key="release-report",
        description=report.release_line(result),
    )


@task(name="log report", tags=["registry"], cache_policy=NO_CACHE)
def log_report(result: ReleaseResult) -> str:
    settings = load_settings()
    registry = Registry.of(settings)
    return registry.log_report(result.model, Path(str(result.report)), report.figures(result))

"""From the command line to the flows.

A flow is found by name: this package may not depend on the orchestrator that runs it.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from regiolect.contracts import NightlyResult, ReleaseResult
from regiolect.errors import BackendUnavailable, OrchestratorError, StorageError, UnknownModel
from regiolect.planning import plan_here
from regiolect.reachable import require_prefect
from regiolect.registry import Exclusively
from regiolect.settings import Settings
from regiolect.tune.result import TuningResult, untried

# An embedded server, its database and a small model's engines; with less, SQLite dies in the middle of a release.
LEAST_FREE = 256 * 1024 * 1024


def run_release(
    settings: Settings,
    model: str,
    regions: list[str] | None,
    *,
    targets: list[str] | None,
    force: bool,
    drills: bool,
) -> ReleaseResult:
    """Run the release flow, embedded or against the server that PREFECT_API_URL names.

    Raises:
        StorageError: the home cannot be written, or its disk is full.
        BackendUnavailable: the orchestrator is not installed.
        OrchestratorError: the server does not answer, or cannot be started.
        RegiolectError: the request itself is wrong, or what stopped the release as a whole.
    """
    _require_ready(settings)
    # A wrong request is answered at once: no server is started to find it out.
    planned = plan_here(settings, model, regions, targets=targets, force=force)
    if settings.isolation == "on" and planned.requests("build", "rebuild"):
        # Modules are imported there while this process starts the orchestrator.
        from regiolect.host.isolated import start_fork_server
        from regiolect.stages import PRELOADED

        start_fork_server(PRELOADED)
    release = flows_module("release").release
    result: ReleaseResult = _run(release, model, regions=regions, targets=targets, force=force, drills=drills)
    return result


def run_nightly(
    settings: Settings, models: list[str] | None, regions: list[str] | None, *, dry_run: bool
) -> NightlyResult:
    """Run the nightly flow, embedded or against the server that PREFECT_API_URL names.

    Raises:
        UnknownModel: no model is named, and this installation knows none.
        StorageError, BackendUnavailable, OrchestratorError: as `run_release`.
    """
    if not (models or settings.known_models()):
        raise UnknownModel(
            expected="models to release",
            found="none named, none in REGIOLECT_MODELS, no entry point of group regiolect.models",
            remedy="regiolect nightly package.module:NAME, or REGIOLECT_MODELS=package.module:NAME,...",
        )
    _require_ready(settings)
    nightly = flows_module("nightly").nightly
    result: NightlyResult = _run(nightly, models=models, regions=regions, dry_run=dry_run)
    return result


def run_tuning(
    settings: Settings,
    model: str,
    regions: list[str] | None,
    *,
    targets: list[str] | None,
    minutes: float,
    force: bool,
) -> TuningResult:
    """Tune approved engines on their targets, embedded or against the server that PREFECT_API_URL names.

    Raises:
        As `run_release`.
    """
    _require_ready(settings)
    refused = untried(plan_here(settings, model, regions, targets=targets, force=False))
    tune_all = flows_module("tune_on_target").tune_all
    answers = _run(tune_all, model, regions=regions, targets=targets, minutes=minutes, force=force)
    return TuningResult(answers=answers, refused=refused)


def registration_lock(settings: Settings) -> Exclusively:
    """The lock that releases hold while aliases move.

    Raises:
        BackendUnavailable: the orchestrator is not installed.
    """
    found: Exclusively = _module("tasks.exclusively").one_release_at_a_time(settings)
    return found


def _require_ready(settings: Settings) -> None:
    _require_room(settings.home)
    _require_room(Path(os.environ["PREFECT_HOME"]))
    server = os.environ.get("PREFECT_API_URL")
    if server:
        require_prefect(server, "unset PREFECT_API_URL to run embedded")


def flows_module(name: str) -> Any:
    """A module of the package `flows`, which needs the orchestrator.

    Raises:
        BackendUnavailable: the orchestrator, or something else that flows need, is not installed.
    """
    return _module(f"flows.{name}")


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise BackendUnavailable(
            expected="what a release needs to be installed",
            found=f"no module named {error.name!r}",
            remedy="pip install 'regiolect[release]'",
        ) from error


def _run(flow: Callable[..., Any], *args: object, **how: object) -> Any:
    try:
        return flow(*args, **how)
    except RuntimeError as error:
        # Prefect's own word for a server that did not come up; anything else that it raises is not ours to name.
        if "API" not in str(error):
            raise
        raise OrchestratorError(
            expected="an embedded Prefect server to start, or the one at PREFECT_API_URL to answer",
            found=str(error).splitlines()[0],
            remedy=f"see `prefect server start`; its folder is {os.environ['PREFECT_HOME']}",
        ) from error


def _require_room(folder: Path) -> None:
    # Made here: without its folder Prefect's embedded server dies and is restarted until its time is up.
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise StorageError(
            expected=f"a folder at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="mend its permissions, or choose another place with REGIOLECT_HOME",
        ) from error
    if free < LEAST_FREE:
        raise StorageError(
            expected=f"at least {LEAST_FREE >> 20} MiB free for {folder}",
            found=f"{free >> 20} MiB",
            remedy="free space, or choose another place with REGIOLECT_HOME",
        )

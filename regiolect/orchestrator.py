"""From the command line to the flows.

A flow is found by name: this package may not depend on the orchestrator that runs it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from regiolect.contracts import NightlyResult, ReleaseResult
from regiolect.errors import BackendUnavailable, OrchestratorError, UnknownModel
from regiolect.errors.redaction import redacted_address, showable
from regiolect.host.interrupts import farewell
from regiolect.host.room import require_room
from regiolect.network import require_prefect
from regiolect.planning import ReleaseRequest, plan_here, planned_ahead
from regiolect.registry import Exclusively, Registry
from regiolect.servers.temporary import TemporaryServer
from regiolect.settings import Settings
from regiolect.tune.result import TuningResult, untried


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
    asked = ReleaseRequest.of(model, regions, targets, force=force)
    planned = plan_here(settings, asked, champions=Registry.of(settings).champions)
    if settings.isolation == "on" and planned.requests("build", "rebuild"):
        # Modules are imported there while this process starts the orchestrator.
        from regiolect.host.isolated import start_fork_server
        from regiolect.release.stages import PRELOADED

        start_fork_server(PRELOADED)
    with planned_ahead(asked, planned):
        result: ReleaseResult = _run(
            settings, "release.release", model, regions=regions, targets=targets, force=force, drills=drills
        )
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
    result: NightlyResult = _run(settings, "nightly.nightly", models=models, regions=regions, dry_run=dry_run)
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
    asked = ReleaseRequest.of(model, regions, targets)
    planned = plan_here(settings, asked)
    with planned_ahead(asked, planned):
        answers = _run(
            settings,
            "tune_on_target.tune_all",
            model,
            regions=regions,
            targets=targets,
            minutes=minutes,
            force=force,
        )
    return TuningResult(answers=answers, refused=untried(planned))


def registration_lock(settings: Settings) -> Exclusively:
    """The lock that releases hold while aliases move.

    Raises:
        BackendUnavailable: the orchestrator is not installed.
    """
    found: Exclusively = _module("tasks.registration_lock").one_release_at_a_time(settings)
    return found


def _require_ready(settings: Settings) -> None:
    require_room(settings.home)
    require_room(Path(os.environ["PREFECT_HOME"]))
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


def _run(settings: Settings, flow: str, *args: object, **how: object) -> Any:
    """Run `module.name` of the package `flows` with the user's server, or with one that lasts as long as this process.

    Both begin at once: Prefect takes seconds to be imported, here as there.
    """
    temporary = None
    if find_spec("prefect") is not None and not (settings.has_server or _server_of_prefect()):
        temporary = TemporaryServer(Path(os.environ["PREFECT_HOME"]).expanduser())
        temporary.begin()
    module, _, name = flow.partition(".")
    found = getattr(flows_module(module), name)
    if temporary is not None:
        temporary.wait()
        flows_module("own_server").require(os.environ["PREFECT_API_URL"])
        # It is ended like all that this process started; what it logged is of no use then.
        with farewell(temporary.drop_log):
            return _answer(found, *args, **how)
    interruption = flows_module("interruption")
    with farewell(interruption.cancel):
        return _answer(interruption.known(found), *args, **how)


def _server_of_prefect() -> str | None:
    """The server that Prefect was told of by other means than the environment, where it is imported already."""
    settings = sys.modules.get("prefect.settings")
    return settings.PREFECT_API_URL.value() if settings is not None else None


def _answer(flow: Callable[..., Any], *args: object, **how: object) -> Any:
    try:
        return flow(*args, **how)
    except RuntimeError as error:
        # Prefect's own word for a server that it does not reach; anything else that it raises is not ours to name.
        if "API" not in str(error):
            raise
        raise OrchestratorError(
            expected=f"the Prefect server at {redacted_address(os.environ['PREFECT_API_URL'])} to answer",
            found=str(error).splitlines()[0],
            remedy="see its log and whether it still runs, then run again: what was finished is kept",
        ) from showable(error)

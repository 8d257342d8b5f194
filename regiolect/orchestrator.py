"""From the command line to the flows.

Scripts and notebooks come the same way: `regiolect.plan` and `regiolect.run` are from here.

A flow is found by name: this package may not depend on the orchestrator that runs it.
"""

from __future__ import annotations

import atexit
import difflib
import logging
import math
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from pathlib import Path
from typing import Any, Unpack

from regiolect.contracts import NightlyResult, ReleaseResult
from regiolect.errors import BackendUnavailable, InvalidSetting, OrchestratorError, UnknownModel
from regiolect.errors.redaction import redacted_address, showable
from regiolect.host.interrupts import FAREWELL_SECONDS, answering, farewell, is_answered
from regiolect.host.room import require_room
from regiolect.model import ModelSpec
from regiolect.network import require_prefect
from regiolect.planning import (
    ModelPlan,
    Names,
    Plan,
    ReleaseRequest,
    ReviewedPlan,
    address_given,
    asked_for,
    names_given,
    plan_here,
    plan_models_here,
    planned_ahead,
    read_plan,
    require_as_reviewed,
    to_review,
)
from regiolect.progress import logger, note, watching
from regiolect.registry import Exclusively, Registry
from regiolect.release.unchanged import unchanged
from regiolect.servers.temporary import TemporaryServer
from regiolect.settings import GivenSettings, Settings, load_settings, settings_for
from regiolect.tune.result import TuningResult, untried

# What a command says in its last seconds, and what it takes to end the processes that it started.
_FAREWELL_SECONDS = FAREWELL_SECONDS + 2.0


def plan(
    model: ModelSpec | str,
    *,
    regions: Names = None,
    targets: Names = None,
    force: bool = False,
    policies: Path | str | None = None,
    **settings: Unpack[GivenSettings],
) -> Plan:
    """What `run` would build, rebuild, promote, reuse or refuse, what is to be retired, and why. Changes nothing.

        plan = regiolect.plan("shop.models:MODEL", regions=["eu", "na"])
        print(plan.summary())
        for engine in plan.engines:
            print(engine.place, engine.action, engine.reason)

    Args:
        model: address of a ModelSpec, `package.module:NAME`, or the name of an entry point, as for `regiolect plan`. Or
            the ModelSpec, if a module that can be imported holds it: the processes in which a release works import it
            from there, so one that only a notebook or the script itself defines is refused.
        regions: regions to plan; every region that has both a policy and data of the model's when None.
        targets: targets to plan for; every target of these regions' policies when None.
        force: plan what did not change as a build.
        policies: folder of region policies; the environment's REGIOLECT_POLICIES or the built-in ones when None.
        settings: settings by keyword in place of the environment's: `home="runs"` for REGIOLECT_HOME.

    Returns:
        Every engine that is asked for and every one that nobody asks for any more, each with an `action` and a
        `reason`. A region that cannot be built is planned as `refuse`, with its `failure`, and stops no other.

    Raises:
        UnknownModel, InvalidModelSpec: there is no such model, or it cannot be used.
        UnknownRegion, UnknownTarget: a named region has no policy or no data, or no policy has a named target.
        UsageError: `regions` or `targets` is empty.
        ChangedMeanwhile: a file of the model's code is newer than what this process has imported.
        InvalidSetting: there is no such setting, or it has an unusable value.
        PolicyError, StorageError: policies or store cannot be read.
    """
    (planned,) = plan_all([model], regions=regions, targets=targets, force=force, policies=policies, **settings)
    if planned.plan is None:
        raise AssertionError("of a single model the failure is raised")
    return planned.plan


def plan_all(
    models: Sequence[ModelSpec | str] = (),
    *,
    regions: Names = None,
    targets: Names = None,
    force: bool = False,
    policies: Path | str | None = None,
    **settings: Unpack[GivenSettings],
) -> tuple[ModelPlan, ...]:
    """`plan` of several models, or of all that this installation knows when none is named.

    Of several, one that cannot be planned is told in its `failure` and stops no other.

    Raises:
        As `plan`; of several models only what concerns the request as a whole.
    """
    with _settings(plan, policies, settings) as here:
        return plan_models_here(
            here,
            [address_given(model) for model in models],
            names_given("regions", regions),
            targets=names_given("targets", targets),
            force=force,
            champions=Registry.of(here).champions,
        )


def run(
    model: ModelSpec | str | None = None,
    *,
    regions: Names = None,
    targets: Names = None,
    force: bool = False,
    plan: Path | str | None = None,
    drills: bool = False,
    policies: Path | str | None = None,
    progress: bool = True,
    verbose: bool = False,
    **settings: Unpack[GivenSettings],
) -> ReleaseResult:
    """Build, judge and register an engine for every region; what did not change is not built again.

        result = regiolect.run("shop.models:MODEL", regions=["eu"], policies="policies")
        assert result.complete, [(row.region, row.decision, row.reasons) for row in result.rows]

    It is what `regiolect run` does: embedded, or against the server that PREFECT_API_URL names. It works in a process
    of its own: a notebook's stop button, or Ctrl-C, ends that within seconds and raises KeyboardInterrupt, and what was
    finished is kept. With `isolation="off"` it works in this process, where a debugger finds it.

    Args:
        model, regions, targets, policies, settings: as for `plan`.
        force: build again what did not change.
        plan: the file of a plan that `regiolect plan --out` wrote: it is released as it is, or not at all. `regions`,
            `targets` and `force` are its own; a model that is named has to be its own.
        drills: also try three engines that must be refused.
        progress: print a line per engine to stderr while it works, in a notebook below the cell.
        verbose: print every step as well, and what the libraries log; without it they are silent.

    Returns:
        A row per engine with its decision, figures and the name under which it is served. `complete` says whether all
        that was asked for is served. What the gate refuses is no error: it is that row's `decision` and `reasons`.

    Raises:
        StorageError: the home cannot be written, or its disk is full.
        BackendUnavailable: the orchestrator is not installed.
        OrchestratorError: the server does not answer, or cannot be started.
        InvalidPlan, OutdatedPlan: `plan` names no plan, or a release would do something else now.
        RegiolectError: the request itself is wrong, as for `plan`, or what stopped the release as a whole.
    """
    reviewed = None if plan is None else read_plan(Path(plan))
    with _settings(run, policies, settings) as here, watching(verbose, progress):
        asked = asked_for(model, regions, targets, force, reviewed)
        note(f"{asked.address}: looks at policies, data and what is kept")
        if here.isolation == "off" or is_answered():
            return run_release(here, asked, reviewed=reviewed, drills=drills)
        from regiolect.host.isolated import Child, Limits

        limits = Limits(memory_bytes=sys.maxsize, seconds=math.inf)
        with Child(f"the release of {asked.address}", limits, farewell=_FAREWELL_SECONDS) as child:
            return child.run(_released, logger.level, asked, reviewed, drills)


def _released(level: int, asked: ReleaseRequest, reviewed: ReviewedPlan | None, drills: bool) -> ReleaseResult:
    """`run_release` as the work of a child process, which answers interruptions as a command does."""
    logger.setLevel(level)
    # What leads to the parent: of the root logger Prefect makes its own, once it is imported.
    logger.handlers, logger.propagate = [*logging.root.handlers], False
    release = partial(run_release, load_settings(), asked, reviewed=reviewed, drills=drills)
    try:
        return answering(release)
    finally:
        # A forked process calls by itself none of the functions that end Prefect and its server.
        atexit._run_exitfuncs()


@contextmanager
def _settings(
    function: Callable[..., object], policies: Path | str | None, given: Mapping[str, object]
) -> Iterator[Settings]:
    """The settings of a call, whose misspelt options would be taken for settings."""
    names, options = GivenSettings.__annotations__.keys(), signature(function).parameters.keys()
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, [*options, *names], n=1)
            raise InvalidSetting(
                expected=f"options of regiolect.{function.__name__}, or one of the settings {', '.join(sorted(names))}",
                found=f"{name}={given[name]!r}",
                remedy=f"did you mean {near[0]}=?" if near else "leave it out, or correct its name",
            )
    with settings_for(policies=policies, **given) as settings:
        yield settings


def run_release(
    settings: Settings, asked: ReleaseRequest, *, reviewed: ReviewedPlan | None = None, drills: bool = False
) -> ReleaseResult:
    """Run the release flow, embedded or against the server that PREFECT_API_URL names.

    Args:
        asked: what is to be released.
        reviewed: the plan that it must come to; None: whatever it comes to.

    Raises:
        StorageError: the home cannot be written, or its disk is full.
        BackendUnavailable: the orchestrator is not installed.
        OrchestratorError: the server does not answer, or cannot be started.
        OutdatedPlan: it does not come to that plan now.
        RegiolectError: the request itself is wrong, or what stopped the release as a whole.
    """
    _require_ready(settings)
    started, registry = datetime.now(UTC), Registry.of(settings)
    # A wrong request is answered at once: no server is started to find it out.
    planned = plan_here(settings, asked, champions=registry.champions)
    if reviewed is not None:
        require_as_reviewed(reviewed, bound(settings, asked, planned))
        note(f"{asked.address}: as it was planned at {reviewed.made:%Y-%m-%d %H:%M} UTC")
    # A server shows every release that was asked for; without one nobody misses a run that did nothing.
    done = None if drills or _has_server(settings) else unchanged(settings, planned, registry, started)
    if done is not None:
        note(planned.summary())
        return done
    if settings.isolation == "on" and planned.requests("build", "rebuild"):
        # Modules are imported there while this process starts the orchestrator.
        from regiolect.host.isolated import start_fork_server
        from regiolect.release.stages import PRELOADED

        start_fork_server(PRELOADED)
    with planned_ahead(asked, planned):
        result: ReleaseResult = _run(settings, "release.release", **asked.parameters(), drills=drills)
    return result


def bound(settings: Settings, asked: ReleaseRequest, planned: Plan) -> ReviewedPlan:
    """A plan with all that it is bound to, to be kept for review or held against one that was.

    Raises:
        RegistryError: the registry does not tell what it serves.
    """
    registry = redacted_address(settings.tracking_uri)
    return to_review(asked, planned, Registry.of(settings).champions(), registry)


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
            found="none named, none in regiolect.toml or REGIOLECT_MODELS, no entry point of group regiolect.models",
            remedy='regiolect nightly package.module:NAME, or model = "package.module:NAME" in regiolect.toml',
        )
    _require_ready(settings)
    result: NightlyResult = _run(settings, "nightly.nightly", models=models, regions=regions, dry_run=dry_run)
    return result


def run_tuning(
    settings: Settings,
    address: str,
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
    asked = ReleaseRequest.of(address, regions, targets)
    planned = plan_here(settings, asked)
    with planned_ahead(asked, planned):
        answers = _run(
            settings,
            "tune_on_target.tune_all",
            address,
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
    lock: Exclusively = _module("tasks.registration_lock").one_release_at_a_time(settings)
    return lock


def _require_ready(settings: Settings) -> None:
    if find_spec("prefect") is None:
        # Told before anything is planned: what is refused for want of a backend would hide it.
        raise _not_installed("prefect")
    require_room(settings.home)
    require_room(Path(os.environ["PREFECT_HOME"]))
    if server := os.environ.get("PREFECT_API_URL"):
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
        raise _not_installed(error.name) from error


def _not_installed(module: str | None) -> BackendUnavailable:
    return BackendUnavailable(
        expected="what a release needs to be installed",
        found=f"no module named {module!r}",
        remedy="pip install 'regiolect[release]'",
    )


def _run(settings: Settings, flow: str, *args: object, **how: object) -> Any:
    """Run `module.name` of the package `flows` with the user's server, or with one that lasts as long as this process.

    Both begin at once: Prefect takes seconds to be imported, here as there.
    """
    temporary = None
    if not _has_server(settings):
        temporary = TemporaryServer(Path(os.environ["PREFECT_HOME"]).expanduser())
        temporary.begin()
    module, _, name = flow.partition(".")
    function = getattr(flows_module(module), name)
    if temporary is not None:
        temporary.wait()
        flows_module("own_server").require(os.environ["PREFECT_API_URL"])
        # It is ended like all that this process started; what it logged is of no use then.
        with farewell(temporary.drop_log):
            return _answer(function, *args, **how)
    interruption = flows_module("interruption")
    with farewell(interruption.cancel):
        return _answer(interruption.known(function), *args, **how)


def _has_server(settings: Settings) -> bool:
    """Whether Prefect was told of a server: by the environment, or by other means where it is imported already."""
    prefect = sys.modules.get("prefect.settings")
    return settings.has_server or (prefect is not None and bool(prefect.PREFECT_API_URL.value()))


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

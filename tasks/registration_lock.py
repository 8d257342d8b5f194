"""One release at a time at a registered model's aliases."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.filters import TaskRunFilter, TaskRunFilterName, TaskRunFilterState, TaskRunFilterStateType
from prefect.client.schemas.objects import StateType
from prefect.concurrency.asyncio import ConcurrencySlotAcquisitionError
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_logger
from prefect.runtime import task_run

from regiolect.errors import OrchestratorError, RegistrationBusy
from regiolect.host.waiting import alone, patiently
from regiolect.registry import Exclusively
from regiolect.settings import Settings

# Prefect gives no shorter lease. It is renewed while its holder lives, so this is how long a dead one keeps its slot,
# and the server looks every 15 s; a waiter asks again after at most 30 s.
_LEASE_SECONDS = 60.0
WAIT_SECONDS = 180.0
# Longer than a loaded server takes to answer. A request that is given up may have been granted all the same, and such
# a slot is nobody's until its lease ends.
_ANSWER_SECONDS = 10.0


def one_release_at_a_time(settings: Settings) -> Exclusively:
    """The lock that every release has in common: the Prefect server's, or a file in the home where there is none.

    An embedded server is no place for it: it ends with its release and never looks after leases, so that a killed
    release would hold its slot for ever. A file lock ends with the process.
    """

    @contextmanager
    def by_file(name: str) -> Iterator[None]:
        path = settings.home / "locks" / f"{limit_of(name)}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        remedy = "run again when the other release is over; nothing is built twice"
        with alone(path, f"to be alone at {name}", WAIT_SECONDS, RegistrationBusy, remedy):
            yield

    return held_slot if settings.has_server else by_file


def limit_of(name: str) -> str:
    """The Prefect global concurrency limit of a registered model."""
    return f"register-{name}"


@contextmanager
def held_slot(name: str, wait_seconds: float = WAIT_SECONDS) -> Iterator[None]:
    """Holds the one slot of a registered model's Prefect concurrency limit, which is made if absent.

    Raises:
        RegistrationBusy: it was not free within `wait_seconds`.
        OrchestratorError: the server does not answer, or lost the slot; or the limit was disabled or has another number
            of slots, so that it would not keep two releases apart.
    """
    limit = limit_of(name)
    done = False
    try:
        with ExitStack() as stack:
            _require_limit(limit)

            looked = False

            def take(seconds: float) -> bool:
                nonlocal looked
                if not looked:
                    looked, seconds = True, max(seconds, _ANSWER_SECONDS)
                    if _is_taken(limit):
                        return False
                slot = concurrency(limit, timeout_seconds=seconds, lease_duration=_LEASE_SECONDS, strict=True)
                with suppress(TimeoutError):
                    stack.enter_context(slot)
                    return True
                return False

            whom = partial(_others, limit)
            patiently(take, f"to be alone at {name}", wait_seconds, whom, partial(_busy, name, wait_seconds))
            # Of a limit that was disabled meanwhile the server gives a slot to each that waits.
            _require_limit(limit)
            yield
            done = True
    except (httpx.HTTPError, ConcurrencySlotAcquisitionError) as error:
        if done:
            # What the slot was for is done, and the server frees it when its lease ends.
            get_logger("regiolect").warning("%s: the slot of %s could not be given back: %s", name, limit, error)
            return
        raise OrchestratorError(
            expected=f"the slot of the concurrency limit {limit!r} from the Prefect server",
            found=f"{error} ({type(error).__name__})",
            remedy="see the server's log, then run again, which completes what was begun",
        ) from error


def _require_limit(limit: str) -> None:
    """Makes the limit if it is absent, and sees that it keeps all but one out."""
    with get_client(sync_client=True) as client:
        try:
            state = client.read_global_concurrency_limit_by_name(limit)
        except ObjectNotFound:
            # Another release may make it between the two calls.
            with suppress(ObjectAlreadyExists):
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=limit, limit=1))
            state = client.read_global_concurrency_limit_by_name(limit)
    if state.active and state.limit == 1:
        return
    commands = [f"prefect gcl update {limit} --limit 1"] if state.limit != 1 else []
    commands += [] if state.active else [f"prefect gcl enable {limit}"]
    raise OrchestratorError(
        expected=f"one slot in the concurrency limit {limit!r}, which keeps two releases from registering at once",
        found=f"{state.limit} slot{'' if state.limit == 1 else 's'}{'' if state.active else ', and it is disabled'}",
        remedy=f"{' && '.join(commands)}; then run again, which completes what was begun",
    )


def _is_taken(limit: str) -> bool:
    with get_client(sync_client=True) as client:
        state = client.read_global_concurrency_limit_by_name(limit)
        return state.active_slots >= state.limit


def _others(limit: str) -> str:
    """The runs that hold or want the slot, but for this one."""
    wanted = TaskRunFilter(
        name=TaskRunFilterName(any_=[limit]),
        state=TaskRunFilterState(type=TaskRunFilterStateType(any_=[StateType.RUNNING])),
    )
    with get_client(sync_client=True) as client:
        others = []
        for run in client.read_task_runs(task_run_filter=wanted):
            if str(run.id) != str(task_run.id) and run.flow_run_id is not None:
                since = f" since {run.start_time:%Y-%m-%d %H:%M:%S} UTC" if run.start_time else ""
                others.append(f"{client.read_flow_run(run.flow_run_id).name!r}{since}")
    return f"registering now: {', '.join(others) or 'no run that the server knows'}"


def _busy(name: str, wait_seconds: float, others: str) -> RegistrationBusy:
    limit = limit_of(name)
    return RegistrationBusy(
        expected=f"the one slot of the concurrency limit {limit!r} within {wait_seconds:.0f} s",
        found=f"it is taken; {others}",
        remedy=(
            "run again when they are over; a dead run's slot is free within 75 s, unless the server was restarted and "
            f"keeps leases in memory: then reset it by: prefect gcl update {limit} --active-slots 0"
        ),
    )

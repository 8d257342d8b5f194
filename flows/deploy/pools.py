"""Work pools, queues, deployments and the watch over them on a Prefect server, as `deployments` lists them.

What exists is compared before anything is written, so that a second time changes nothing, and what operators decide
stays: paused pools, queues, deployments and schedules, limits of pools and queues, and schedules of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Any, Literal
from uuid import UUID

import httpx
from prefect.automations import AutomationCore, EventTrigger, Posture
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import (
    DeploymentScheduleCreate,
    DeploymentUpdate,
    WorkPoolCreate,
    WorkPoolUpdate,
    WorkQueueUpdate,
)
from prefect.client.schemas.filters import FlowFilter, FlowFilterName
from prefect.client.schemas.objects import ConcurrencyLimitStrategy, ConcurrencyOptions, StateType, WorkPool
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.events.actions import ChangeFlowRunState
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.utilities.callables import parameter_schema

from flows.choices import offering
from flows.deploy.deployments import (
    FLOWS,
    HEARTBEAT_SECONDS,
    QUEUES,
    TAG,
    Deployment,
    Pool,
    PoolType,
    Schedule,
    deployments,
    pools,
)
from flows.deploy.job_templates import closed, template_of
from regiolect.errors import OrchestratorError
from regiolect.errors.redaction import showable
from regiolect.network import one_line
from regiolect.policy import PolicyBook
from regiolect.settings import Settings

Done = Literal["created", "updated", "unchanged", "deleted", "obsolete"]
WATCH = "regiolect: a run without heartbeat has crashed"
# A beat may be late, and one may get lost; three in a row do not.
_MISSED_BEATS = 3
_PAGE = 200


@dataclass(frozen=True)
class Change:
    """What became of one thing on the server. `detail` names what was updated, or why something was not."""

    kind: Literal["pool", "queue", "deployment", "automation"]
    name: str
    done: Done
    detail: str = ""


def apply(
    book: PolicyBook,
    settings: Settings,
    pool_type: PoolType = "process",
    job_templates: Path | None = None,
    prune: bool = False,
    through: Callable[[SyncPrefectClient], SyncPrefectClient] = lambda client: client,
) -> tuple[Change, ...]:
    """Bring the Prefect server at PREFECT_API_URL to what `flows.deploy.deployments` lists.

    Args:
        pool_type: of pools that do not exist yet; a pool's type never changes.
        job_templates: folder of base job templates, `<type>.json`; Prefect's own for process pools when left out.
        prune: delete deployments of this list whose region or target is gone from the policies; else they are told.
        through: makes of the server's client the one that is used; one that writes nothing tells what would be done.

    Raises:
        PolicyError: the policies are unusable, or give two things the same name.
        InvalidSetting: a template or an image is missing or unusable.
        OrchestratorError: the server does not answer, or refuses.
    """
    wanted_pools, wanted = pools(book), deployments(book)
    with server() as opened, offering(book, settings):
        client = through(opened)
        changes: list[Change] = []
        types: dict[str, str] = {}
        existing = {pool.name: pool for pool in client.read_work_pools()}
        for pool in wanted_pools:
            present_pool = existing.get(pool.name)
            types[pool.name] = pool_type if present_pool is None else present_pool.type
            sets = [each.job_variables(types[pool.name], settings) for each in wanted if each.pool == pool.name]
            change = _pool(client, pool, present_pool, types[pool.name], pool_type, job_templates, sets)
            changes += [change, *_queues(client, pool, is_new=pool.name not in existing)]
        present = _present(client)
        for deployment in wanted:
            fields = _fields(deployment, types[deployment.pool], settings)
            changes.append(_deployment(client, deployment, fields, present.get(deployment.full_name)))
        obsolete = _obsolete(present, {deployment.full_name for deployment in wanted})
        changes += _left(client, obsolete, existing.keys() - types.keys(), existing)
        changes += _drop(client, obsolete, prune)
        changes.append(_watch(client, watch()))
    return tuple(changes)


def watch(within: timedelta = timedelta(seconds=_MISSED_BEATS * HEARTBEAT_SECONDS)) -> AutomationCore:
    """Marks a run as crashed when it neither tells that it lives nor ends: its process, worker or machine is gone.

    Only runs of deployments with our tag are watched; they beat every HEARTBEAT_SECONDS.
    """
    ends = ("Completed", "Cached", "RolledBack", "Failed", "TimedOut", "Crashed", "Cancelled", "Suspended")
    return AutomationCore(
        name=WATCH,
        description=f"A run that is silent for {within.total_seconds():g} s is marked as Crashed, so that it blocks no "
        "place and its release goes on without it.",
        trigger=EventTrigger(
            match={"prefect.resource.id": "prefect.flow-run.*"},
            match_related={"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"},
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.heartbeat", *(f"prefect.flow-run.{end}" for end in ends)},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=within,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"No heartbeat for {within.total_seconds():g} s: its process, worker or machine is gone.",
            )
        ],
    )


@contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """A client of the server at PREFECT_API_URL; what goes wrong with it inside is an OrchestratorError."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except httpx.HTTPStatusError as error:
        refused = error.response.status_code in (401, 403)
        raise OrchestratorError(
            expected="the Prefect server to accept pools and deployments",
            found=_said(error.response),
            remedy="set PREFECT_API_AUTH_STRING or PREFECT_API_KEY to credentials that it accepts"
            if refused
            else "mend what it names and apply again; if that is none of yours, compare its version: prefect version",
        ) from showable(error)
    except httpx.HTTPError as error:
        raise OrchestratorError(
            expected="the Prefect server to go on answering",
            found=f"{type(error).__name__}: {error}",
            remedy="see that it runs, then apply again: what was done is left as it is",
        ) from showable(error)
    except (ObjectAlreadyExists, ObjectNotFound) as error:
        raise OrchestratorError(
            expected="nobody else to change pools and deployments meanwhile",
            found=type(error).__name__,
            remedy="apply again",
        ) from error


def _said(response: httpx.Response) -> str:
    """An answer in a line. A refused request is repeated in it at length; that is left out."""
    try:
        body = response.json()
    except ValueError:
        body = {}
    reasons = [each.get("msg") for each in body.get("exception_detail") or ()] or [body.get("detail") or "no reason"]
    where = f"{response.request.method} {response.request.url.path}"
    return one_line(f"{response.status_code} for {where}: {'; '.join(map(str, reasons))}")


def _pool(
    client: SyncPrefectClient,
    pool: Pool,
    existing: WorkPool | None,
    pool_type: str,
    asked_type: PoolType,
    job_templates: Path | None,
    sets: Sequence[Mapping[str, Any]],
) -> Change:
    """Make or update a pool of `pool_type` whose deployments set the job variables `sets`.

    A template that is there stays the operator's where no other is given; it is closed all the same.
    """
    if existing is not None and job_templates is None:
        template = existing.base_job_template
    else:
        template = template_of(pool_type, job_templates)
    template = closed(template, sets, pool.name)
    if existing is None:
        client.create_work_pool(
            WorkPoolCreate(name=pool.name, type=pool_type, description=pool.description, base_job_template=template)
        )
        return Change("pool", pool.name, "created", pool_type)
    wanted: dict[str, Any] = {"description": pool.description, "base_job_template": template}
    changed = {name: value for name, value in wanted.items() if getattr(existing, name) != value}
    if changed:
        client.update_work_pool(pool.name, WorkPoolUpdate(**changed))
    detail = pool_type
    if pool_type != asked_type:
        detail += f", not {asked_type}: a pool keeps its type until it is deleted"
    return _told("pool", pool.name, changed, detail)


def _queues(client: SyncPrefectClient, pool: Pool, is_new: bool) -> Iterator[Change]:
    # A new pool has none of ours.
    present = {} if is_new else {queue.name: queue for queue in client.read_work_queues(work_pool_name=pool.name)}
    for queue in QUEUES:
        name, existing = f"{pool.name}/{queue.name}", present.get(queue.name)
        if existing is None:
            client.create_work_queue(
                queue.name, description=queue.description, priority=queue.priority, work_pool_name=pool.name
            )
            yield Change("queue", name, "created", f"priority {queue.priority}")
            continue
        wanted = {"description": queue.description, "priority": queue.priority}
        changed = {field: value for field, value in wanted.items() if getattr(existing, field) != value}
        if changed:
            # Through its pool: there the server moves other queues out of the way of a priority.
            client.request(
                "PATCH",
                "/work_pools/{work_pool_name}/queues/{name}",
                path_params={"work_pool_name": pool.name, "name": queue.name},
                json=WorkQueueUpdate(**changed).model_dump(mode="json", exclude_unset=True),
            )
        yield _told("queue", name, changed, f"priority {queue.priority}")


def _present(client: SyncPrefectClient) -> dict[str, DeploymentResponse]:
    """Every deployment of our flows by its full name, whoever made it."""
    ours = FlowFilter(name=FlowFilterName(any_=list(FLOWS)))
    flows = {flow.id: flow.name for flow in client.read_flows(flow_filter=ours)}
    present: dict[str, DeploymentResponse] = {}
    offset = 0
    while page := client.read_deployments(flow_filter=ours, limit=_PAGE, offset=offset):
        present.update({f"{flows[each.flow_id]}/{each.name}": each for each in page})
        offset += len(page)
    return present


def _fields(deployment: Deployment, pool_type: str, settings: Settings) -> dict[str, Any]:
    """What we decide of a deployment, by the names of Prefect's fields. What is not here is the operator's."""
    fields: dict[str, Any] = {
        "version": deployment.version,
        "description": deployment.description,
        "tags": list(deployment.tags),
        "work_pool_name": deployment.pool,
        "work_queue_name": deployment.queue,
        "entrypoint": deployment.entrypoint,
        "parameters": dict(deployment.parameters),
        "parameter_openapi_schema": form(deployment),
        "enforce_parameter_schema": True,
        "job_variables": deployment.job_variables(pool_type, settings),
    }
    if deployment.collision is not None:
        fields["concurrency_limit"] = 1
        fields["concurrency_options"] = ConcurrencyOptions(
            collision_strategy=ConcurrencyLimitStrategy(deployment.collision)
        )
    return fields


def form(deployment: Deployment) -> dict[str, Any]:
    """The schema of a deployment's parameters, with what there is to choose from at this moment."""
    module, _, name = deployment.entrypoint.rpartition(".")
    schema = parameter_schema(getattr(import_module(module), name)).model_dump_for_openapi()
    # As `prefect deploy` sends it.
    return {key: value for key, value in schema.items() if key != "definitions" or value}


def _deployment(
    client: SyncPrefectClient, deployment: Deployment, fields: dict[str, Any], existing: DeploymentResponse | None
) -> Change:
    if existing is None:
        client.create_deployment(
            flow_id=client.create_flow_from_name(deployment.flow),
            name=deployment.name,
            schedules=[_scheduled(deployment.schedule)] if deployment.schedule else [],
            **fields,
        )
        return Change("deployment", deployment.full_name, "created", deployment.pool)
    changed = {name: value for name, value in fields.items() if _differs(existing, name, value)}
    if {"work_pool_name", "work_queue_name"} & changed.keys():
        # The server looks a queue up in the pool that is named beside it.
        changed |= {name: fields[name] for name in ("work_pool_name", "work_queue_name")}
    if changed:
        client.update_deployment(existing.id, DeploymentUpdate(**changed))
    if deployment.schedule and _reschedule(client, existing, deployment.schedule):
        changed["schedule"] = deployment.schedule
    return _told("deployment", deployment.full_name, changed, deployment.pool)


def _differs(existing: DeploymentResponse, name: str, wanted: Any) -> bool:
    if name == "concurrency_limit":
        limit = existing.global_concurrency_limit
        return limit is None or limit.limit != wanted
    if name == "concurrency_options":
        options = existing.concurrency_options
        # The grace period in it is the operator's.
        return options is None or options.collision_strategy != wanted.collision_strategy
    return bool(getattr(existing, name) != wanted)


def _scheduled(schedule: Schedule) -> DeploymentScheduleCreate:
    return DeploymentScheduleCreate(
        schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone), active=True, slug=schedule.slug
    )


def _reschedule(client: SyncPrefectClient, existing: DeploymentResponse, wanted: Schedule) -> bool:
    """Whether our schedule had to be written. Whether it is paused stays, and so do all others."""
    ours = next((each for each in existing.schedules if each.slug == wanted.slug), None)
    if ours is None:
        client.create_deployment_schedules(existing.id, [_scheduled(wanted)])
        return True
    present = ours.schedule
    if isinstance(present, CronSchedule) and (present.cron, present.timezone) == (wanted.cron, wanted.timezone):
        return False
    client.update_deployment_schedule(
        existing.id, ours.id, schedule=CronSchedule(cron=wanted.cron, timezone=wanted.timezone)
    )
    return True


def _obsolete(present: Mapping[str, DeploymentResponse], wanted: set[str]) -> dict[str, DeploymentResponse]:
    """Deployments of this list by their full names, whose region or target is gone."""
    return {name: each for name, each in sorted(present.items()) if name not in wanted and TAG in each.tags}


def _left(
    client: SyncPrefectClient,
    obsolete: Mapping[str, DeploymentResponse],
    gone: Collection[str],
    pools: Mapping[str, WorkPool],
) -> Iterator[Change]:
    """Close the templates of pools that only such deployments use: a worker may still be there."""
    for name in sorted({str(each.work_pool_name) for each in obsolete.values()} & set(gone)):
        pool = pools[name]
        sets = [each.job_variables or {} for each in obsolete.values() if each.work_pool_name == name]
        template = closed(pool.base_job_template, sets, name)
        changed = {} if template == pool.base_job_template else {"base_job_template": template}
        if changed:
            client.update_work_pool(name, WorkPoolUpdate(**changed))
        yield _told("pool", name, changed, f"{pool.type}, gone from the policies: prefect work-pool delete")


def _drop(client: SyncPrefectClient, obsolete: Mapping[str, DeploymentResponse], prune: bool) -> Iterator[Change]:
    for name, deployment in obsolete.items():
        if prune:
            client.delete_deployment(deployment.id)
            yield Change("deployment", name, "deleted", "its region or target is gone from the policies")
        else:
            yield Change("deployment", name, "obsolete", "gone from the policies; --prune deletes it")


def _watch(client: SyncPrefectClient, wanted: AutomationCore) -> Change:
    existing = next(iter(client.read_automations_by_name(wanted.name)), None)
    if existing is None:
        client.create_automation(wanted)
        return Change("automation", wanted.name, "created")
    present, should = (
        each.model_dump(mode="json", include={"description", "trigger", "actions"}) for each in (existing, wanted)
    )
    changed = {name: value for name, value in should.items() if _plain(present[name]) != _plain(value)}
    if changed:
        identity: UUID = existing.id
        client.update_automation(identity, wanted.model_copy(update={"enabled": existing.enabled}))
    return _told("automation", wanted.name, changed)


def _plain(value: Any) -> Any:
    """A trigger or action without what the server adds, and with sets in one order."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items() if name != "id" and each is not None}
    if isinstance(value, list):
        return sorted((_plain(each) for each in value), key=repr)
    return value


def _told(kind: Any, name: str, changed: Mapping[str, Any], detail: str = "") -> Change:
    if changed:
        return Change(kind, name, "updated", ", ".join(sorted(changed)))
    return Change(kind, name, "unchanged", detail)

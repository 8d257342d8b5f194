"""A look at a Prefect server: whether it fits this machine and what the policies ask of it. Changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, cast

import prefect
from packaging.version import InvalidVersion, Version
from prefect.client.base import ServerType
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Worker, WorkPool
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from flows.deploy.deployments import CONTROL, pools
from flows.deploy.pools import WATCH, Change, apply
from flows.deploy.pools import server as prefect_server
from regiolect.doctor.finding import Finding, note, ok, told, wrong
from regiolect.errors import InvalidSetting, OrchestratorError, PolicyError
from regiolect.errors.redaction import showable
from regiolect.policy import PolicyBook
from regiolect.settings import Settings

_APPLY = "regiolect pools apply (with --type and --job-templates where new pools are not to be process pools)"
_SHOWN = 6
# What holds the choices of a form.
_FORM = "parameter_openapi_schema"


def server() -> Iterator[Finding]:
    """Whether what answers is a Prefect server that takes our credentials and that this client may talk to.

    Raises:
        OrchestratorError: it refuses, or is no Prefect server.
    """
    with prefect_server() as client:
        where, here = str(client.api_url).rstrip("/"), prefect.__version__
        if client.server_type == ServerType.CLOUD:
            yield ok("prefect", "a Prefect server that answers", f"Prefect Cloud at {where}, client {here}")
            return
        there = _version(client)
    expected = f"a Prefect server that goes with the client's version, {here}"
    found = f"{there} at {where}, client {here}"
    ours, theirs = Version(here), Version(there)
    if theirs.release[:2] == ours.release[:2]:
        yield ok("prefect", expected, found)
    elif theirs.major == ours.major and theirs > ours:
        yield note("prefect", expected, found, remedy="install one version on both: the server's is newer")
    else:
        yield wrong("prefect", expected, found, remedy=f"install one version on both: pip install prefect=={here}")


def _version(client: SyncPrefectClient) -> str:
    try:
        return str(Version(client.api_version()))
    except (ValueError, TypeError, InvalidVersion, PrefectHTTPStatusError) as error:
        if isinstance(error, PrefectHTTPStatusError) and error.response.status_code != 404:
            raise
        raise OrchestratorError(
            expected=f"the API of a Prefect server at PREFECT_API_URL={client.api_url}",
            found="an answer that is not Prefect's",
            remedy="correct PREFECT_API_URL; it ends with /api: http://<host>:4200/api",
        ) from showable(error)


def deployments(book: PolicyBook, settings: Settings) -> Iterator[Finding]:
    """What `regiolect pools apply` would change: pools with their queues, deployments, the watch over runs.

    Raises:
        OrchestratorError: the server refuses.
    """
    try:
        changes = apply(book, settings, through=_reading)
    except PolicyError as error:
        yield told("deployments", error)
        return
    except InvalidSetting as error:
        # Whoever applies needs it, not every machine.
        yield told("deployments", error, "note")
        return
    with prefect_server() as client:
        present = {pool.name: pool for pool in client.read_work_pools()}
        watches = client.read_automations_by_name(WATCH)
    yield _pools([change for change in changes if change.kind in ("pool", "queue")], present, settings)
    yield _deployments([change for change in changes if change.kind == "deployment"], settings)
    yield _watch(next(change for change in changes if change.kind == "automation"), any(w.enabled for w in watches))


def workers(book: PolicyBook, settings: Settings) -> Iterator[Finding]:
    """Whether every pool that the policies need has a worker that lives. Pools that do not exist are left out.

    Raises:
        PolicyError: the policies are unusable.
        OrchestratorError: the server refuses.
    """
    wanted = pools(book)
    with prefect_server() as client:
        present = {pool.name: pool for pool in client.read_work_pools()}
        for pool in wanted:
            if pool.name in present:
                yield worker_of(present[pool.name], client.read_workers_for_work_pool(pool.name), settings)


def notification(block: str) -> Iterator[Finding]:
    """Whether the block exists through which nightlies send their digest. It is not read, and nothing is sent."""
    expected = f"a notification block {block!r} on the Prefect server, as REGIOLECT_NOTIFY names it"
    remedy = "make it in Prefect's pages (Blocks), or name one that `prefect block ls` lists, as type/name"
    kind, _, name = block.partition("/")
    if not (kind and name):
        yield wrong(
            "notification", expected, found="a name without its type: type/name, e.g. slack-webhook/ops", remedy=remedy
        )
        return
    with prefect_server() as client:
        try:
            document = client.read_block_document_by_name(name, kind, include_secrets=False)
        except ObjectNotFound:
            yield wrong("notification", expected, found="no such block", remedy=remedy)
            return
    schema = document.block_schema
    if schema is not None and "notify" not in schema.capabilities:
        yield wrong("notification", expected, found=f"{block}, which cannot notify anybody", remedy=remedy)
    else:
        yield ok("notification", expected, block)


class _Reading:
    """A client of which only what reads reaches the server; everything else does nothing."""

    def __init__(self, client: SyncPrefectClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name) if name.startswith("read_") else _nothing


def _reading(client: SyncPrefectClient) -> SyncPrefectClient:
    # In all that is read it is one.
    return cast(SyncPrefectClient, _Reading(client))


def _nothing(*_: object, **__: object) -> None:
    """Stands for what would be written."""


def _pools(changes: Sequence[Change], present: dict[str, WorkPool], settings: Settings) -> Finding:
    expected = "a work pool with our queues for every target, and one for what waits for them"
    new = tuple(f"{change.name}/" for change in changes if change.kind == "pool" and change.done == "created")
    # The queues of a pool come with it.
    differences = _said([change for change in changes if not (change.kind == "queue" and change.name.startswith(new))])
    if differences:
        return _unless_here(settings, "pools", expected, differences, _APPLY)
    names = [change.name for change in changes if change.kind == "pool"]
    types = ", ".join(f"{name} ({present[name].type})" for name in names)
    paused = [name for name in names if present[name].is_paused]
    if paused:
        resume = f"when that is over: prefect work-pool resume {paused[0]}"
        return note("pools", expected, f"{types}; paused: {', '.join(paused)}", remedy=resume)
    return ok("pools", expected, types)


def _deployments(changes: Sequence[Change], settings: Settings) -> Finding:
    expected = "deployments as the policies and this version of Regiolect ask for"
    differences = _said(changes)
    done = {change.done for change in changes} - {"unchanged"}
    if not differences:
        return ok("deployments", expected, f"{len(changes)} in sync")
    if done == {"obsolete"}:
        return note("deployments", expected, differences, remedy="regiolect pools apply --prune")
    if done == {"updated"} and {each.detail for each in changes if each.done == "updated"} == {_FORM}:
        return note(
            "deployments",
            expected="forms that offer the models that this machine knows",
            found="forms that offer others",
            remedy="set REGIOLECT_MODELS as it is where `regiolect pools apply` was said, or apply again",
        )
    return _unless_here(settings, "deployments", expected, differences, _APPLY)


def _watch(change: Change, enabled: bool) -> Finding:
    name, expected = "watch", f"the automation {WATCH!r}"
    if change.done == "created":
        return wrong(name, expected, "none: a run whose worker died would be waited for to its deadline", _APPLY)
    if change.done == "updated":
        return wrong(name, expected, f"one with another {change.detail}", _APPLY)
    if not enabled:
        return note(name, expected, "it is switched off", remedy=f"prefect automation resume {WATCH!r}")
    return ok(name, expected, "it is on")


def worker_of(pool: WorkPool, registered: Sequence[Worker], settings: Settings) -> Finding:
    """What to say of a pool whose workers are `registered`."""
    name, expected = f"worker of {pool.name}", f"a worker of pool {pool.name!r} that lives"
    online = [worker for worker in registered if worker.status == "ONLINE"]
    if online:
        return ok(name, expected, ", ".join(f"{each.name}, heard of {_ago(each)} ago" for each in online))
    last = max(registered, key=lambda each: each.last_heartbeat_time or datetime.min.replace(tzinfo=UTC), default=None)
    last_heard = "none ever started" if last is None else f"the last, {last.name}, was heard of {_ago(last)} ago"
    where = "on any machine that has the servers' addresses" if pool.name == CONTROL else "on the target"
    remedy = f"start one {where}: prefect worker start --pool {pool.name}"
    return _unless_here(settings, name, expected, last_heard, remedy)


def _ago(worker: Worker) -> str:
    if worker.last_heartbeat_time is None:
        return "an unknown time"
    seconds = max(0.0, (datetime.now(UTC) - worker.last_heartbeat_time).total_seconds())
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _unless_here(settings: Settings, name: str, expected: str, found: str, remedy: str) -> Finding:
    """Wrong where releases need the pools; a note where REGIOLECT_BUILD_ON=here builds without them."""
    return (wrong if settings.on_pools else note)(name, expected, found, remedy)


def _said(changes: Sequence[Change]) -> str:
    """What would be done, in words; empty if nothing would."""
    words = {"created": "missing", "updated": "different", "obsolete": "gone from the policies"}
    parts = []
    for done, word in words.items():
        names = [
            f"{each.name} ({each.detail})" if done == "updated" else each.name for each in changes if each.done == done
        ]
        more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
        if names:
            parts.append(f"{word}: {', '.join(names[:_SHOWN])}{more}")
    return "; ".join(parts)

"""Where artifacts and versions are kept, and what the clocks of the servers say."""

from __future__ import annotations

import base64
import http.client
import os
import platform
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.message import Message
from email.utils import parsedate_to_datetime
from importlib import metadata
from importlib.util import find_spec

from pydantic import AwareDatetime

from regiolect.contracts import Contract, Digest, short
from regiolect.doctor.finding import Finding, note, ok, wrong
from regiolect.errors import RegistryError, StorageError
from regiolect.errors.redaction import redacted_address
from regiolect.identity.toolchain import own_code
from regiolect.integrity import digest_of
from regiolect.registry import CHAMPION, Registry
from regiolect.registry.database import sqlite_file
from regiolect.servers.local import LocalServers
from regiolect.servers.temporary import left_behind
from regiolect.settings import Settings
from regiolect.storage import Store
from regiolect.storage.opening import PLACEHOLDER, SHARED

PROBES = "doctor"
CLOCK_SECONDS = 60
S3_CLOCK_SECONDS = 900
_ANSWER_SECONDS = 5.0
# Machines that were not heard of for longer are taken for gone.
_RECENTLY = timedelta(days=7)


class Probe(Contract):
    """What is written to a store and read back; one per machine, written anew each time, for other machines to see."""

    machine: str
    written: AwareDatetime
    code: Digest


def location(settings: Settings) -> str:
    """Where artifacts are kept, as REGIOLECT_STORE says it."""
    return settings.store_location or str(settings.home / "store")


def shared_store(settings: Settings, *, read_only: bool) -> Iterator[Finding]:
    """The store of what belongs to no region, or the one of all regions: opened, written and read back.

    Raises:
        StorageError: it cannot be.
    """
    at = location(settings)
    parted = PLACEHOLDER in at
    name = f"store of {SHARED}" if parted else "store"
    yield from _store(name, at.replace(PLACEHOLDER, SHARED), settings.store(), read_only=parted and read_only)


def regional_store(settings: Settings, region: str) -> Iterator[Finding]:
    """A region's own store: opened, written and read back.

    Raises:
        StorageError: it cannot be.
    """
    place = location(settings).replace(PLACEHOLDER, region)
    yield from _store(f"store of {region}", place, settings.store(region), read_only=False)


def not_opened(regions: Sequence[str]) -> Iterator[Finding]:
    """What to say of regions whose stores lie behind a shared one that does not open."""
    yield note(
        "stores of regions",
        expected=f"to open those of {', '.join(regions)}",
        found=f"not looked at: the one of {SHARED}, which lies behind each of them, does not open",
        remedy="mend that first, then: regiolect doctor",
    )


def _store(name: str, place: str, store: Store, *, read_only: bool) -> Iterator[Finding]:
    key = short(digest_of(platform.node()))
    probe = Probe(machine=platform.node(), written=datetime.now(UTC), code=own_code())
    if not read_only:
        store.put_record(PROBES, key, probe)
    read_back = store.get_record(PROBES, key, Probe)
    # A second doctor on this machine may have written in between.
    if not read_only and (read_back is None or read_back.written < probe.written):
        raise StorageError(
            expected=f"to read back from {place} what was just written",
            found="nothing" if read_back is None else f"what was written at {read_back.written:%H:%M:%S}, before",
            remedy="choose a store that shows a write to its next reader, as S3 does; look at caches in front of it",
        )
    what = "opened and read" if read_only else "written and read back"
    yield ok(name, "to open, write and read it", f"{place}: {what}")
    for other in store.records(PROBES, Probe):
        if other.code != probe.code and other.machine != probe.machine and probe.written - other.written < _RECENTLY:
            yield note(
                f"code on {other.machine}",
                expected=f"code {short(probe.code)}, as here, on every machine that takes part in a release",
                found=f"code {short(other.code)}, when its doctor looked at {other.written:%Y-%m-%d %H:%M} UTC",
                remedy="install the same version of Regiolect on both: else builds there end in OtherVersion",
            )


def shared_by_machines(settings: Settings) -> Iterator[Finding]:
    """Places that other machines' workers do not reach, where builds are sent to work pools."""
    if settings.on_pools and not location(settings).startswith("s3://"):
        yield note(
            "store, on pools",
            expected="a store that every worker reaches",
            found=f"a folder, {location(settings)}: workers on other machines have another one",
            remedy="REGIOLECT_STORE=s3://bucket-{region}/prefix on every machine, unless all of them mount the folder",
        )
    if settings.on_pools and sqlite_file(settings.tracking_uri) is not None:
        yield note(
            "registry, on pools",
            expected="an MLflow server that every machine registers at",
            found=f"a file, {settings.tracking_uri}: workers on other machines have another one",
            remedy="MLFLOW_TRACKING_URI=http://<host>:5000 on every machine (`regiolect up` starts such a server)",
        )


def registry(settings: Settings) -> Iterator[Finding]:
    """Whether MLflow answers and can be read.

    Raises:
        RegistryError: it does not, or cannot be.
    """
    uri, shown = settings.tracking_uri, redacted_address(settings.tracking_uri)
    expected = f"an MLflow registry to read at {shown}"
    database = sqlite_file(uri)
    if find_spec("mlflow") is None:
        raise RegistryError(expected, "mlflow is not installed", "pip install 'regiolect[registry]'")
    if database is not None and not database.exists():
        yield note("registry", expected, f"no database at {database} yet: the first release makes it")
        return
    # Nobody's name: it is read all the same, and asks for no more than an answer.
    Registry.of(settings).by_alias("regiolect-doctor", CHAMPION)
    here = metadata.version("mlflow")
    there = _text(f"{uri.rstrip('/')}/version", _mlflow_login()) if uri.startswith(("http://", "https://")) else None
    if there is None:
        yield ok("registry", expected, f"{shown}, read with MLflow {here}")
    elif there.split(".")[:1] != here.split(".")[:1]:
        yield wrong(
            "registry",
            expected=f"an MLflow server of the same major version as here, {here}",
            found=f"version {there} at {shown}",
            remedy=f"install the same on both: pip install mlflow=={there}",
        )
    else:
        yield ok("registry", expected, f"{shown}, version {there}, read with MLflow {here}")


def clock(server: str, url: str) -> Iterator[Finding]:
    """This machine's clock against the one of a server, which tells its time with every answer.

    Whether the server answers at all is another check's matter: nothing is said if not.
    """
    before = datetime.now(UTC)
    theirs = _date(url)
    after = datetime.now(UTC)
    if theirs is None:
        return
    # Told in whole seconds, rounded down.
    off = (before + (after - before) / 2 - theirs - timedelta(seconds=0.5)).total_seconds()
    name, expected = f"clock, {server}", f"a clock within {CLOCK_SECONDS} s of the one of {server}"
    if abs(off) <= CLOCK_SECONDS:
        yield ok(name, expected, f"within {max(1, round(abs(off)))} s of {server}")
        return
    refuses = f"; S3 refuses requests beyond {S3_CLOCK_SECONDS} s" if abs(off) > S3_CLOCK_SECONDS else ""
    yield wrong(
        name,
        expected,
        found=f"this machine's is {abs(off):.0f} s {'ahead' if off > 0 else 'behind'}: {after:%Y-%m-%d %H:%M:%S} UTC "
        f"against {theirs:%Y-%m-%d %H:%M:%S} UTC{refuses}",
        remedy="compare both with a third, and set the one that is off, for example: timedatectl set-ntp true",
    )


def local_servers(settings: Settings, environment: dict[str, str]) -> Iterator[Finding]:
    """What `regiolect up` started in this home, and whether `environment` leads there."""
    servers = LocalServers(settings.home, settings.policies)
    if not (servers.root / "state.json").exists():
        return
    running = [server for server in servers.status() if server.address is not None]
    names = ", ".join(server.name for server in running)
    down = [f"{server.name}: {server.problem}" for server in running if server.problem is not None]
    used = {name: value for name, value in servers.environment().items() if name.endswith(("_URL", "_URI"))}
    elsewhere = [name for name, value in used.items() if environment.get(name) != value]
    expected = f"{names}, which `regiolect up` started, to answer"
    if down:
        yield note("local servers", expected, "; ".join(down), remedy="regiolect up")
    elif elsewhere:
        yield note(
            "local servers",
            expected=f"this shell to use {names}, which run on this machine",
            found=f"{', '.join(elsewhere)} not set to them",
            remedy=f"source {servers.env_file}; or regiolect down",
        )
    else:
        yield ok("local servers", expected, names)
    yield note(
        "one account",
        expected="builds under another account than releases, whose key signs",
        found="`regiolect up` serves one account: nothing keeps its builds, or who has its logins, from the key",
        remedy="where that matters, give each its own account or container: infra/compose.yaml, infra/README.md",
    )


def temporary_servers() -> Iterator[Finding]:
    """Prefect servers of commands that are gone, which are to end with them: each holds memory and a port."""
    import psutil

    expected = "no temporary Prefect server without the command that started it"
    for process, address in left_behind():
        with suppress(psutil.NoSuchProcess):
            since = datetime.fromtimestamp(process.create_time(), UTC)
            yield note(
                "temporary server",
                expected,
                found=f"process {process.pid} since {since:%Y-%m-%d %H:%M:%S} UTC, on {address}, "
                f"{process.memory_info().rss >> 20} MiB",
                remedy=f"kill {process.pid}",
            )


def _date(url: str) -> datetime | None:
    headers, _ = _answer(url, 0)
    try:
        date = parsedate_to_datetime(headers.get("Date") or "")
    except ValueError:
        return None
    return date if date.tzinfo is not None else date.replace(tzinfo=UTC)


def _mlflow_login() -> str | None:
    """What logs in to MLflow as its clients do; None without a login in the environment."""
    user, password = (os.environ.get(f"MLFLOW_TRACKING_{name}") for name in ("USERNAME", "PASSWORD"))
    if user is None or password is None:
        return None
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def _text(url: str, login: str | None) -> str | None:
    """A short answer with status 200, or None."""
    _, body = _answer(url, 100, login)
    return body.decode(errors="replace").strip() or None


def _answer(url: str, most: int, login: str | None = None) -> tuple[Message, bytes]:
    """Headers of whatever answers, and up to `most` bytes of a good answer. User and password in `url` are not sent."""
    parts = urllib.parse.urlsplit(url)
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        asked = urllib.request.Request(bare)  # noqa: S310 - http or https only
        if login is not None:
            # Not sent on to where a redirect leads.
            asked.add_unredirected_header("Authorization", login)
        with urllib.request.urlopen(asked, timeout=_ANSWER_SECONDS) as answer:  # noqa: S310
            return answer.headers, answer.read(most)
    except urllib.error.HTTPError as error:
        with error:
            return error.headers, b""
    except (OSError, ValueError, http.client.HTTPException):
        return Message(), b""

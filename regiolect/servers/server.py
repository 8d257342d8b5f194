"""What a local server is: how it is started, asked whether it is well, and stopped."""

from __future__ import annotations

import http.client
import os
import signal
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from regiolect.integrity import digest_of
from regiolect.servers.credentials import Credentials
from regiolect.servers.ports import HOST

PYTHON = (sys.executable, "-m")
ANSWER_SECONDS = 5.0
# Configuration of the caller's own that would reach a server by way of its environment and change what it does.
_FOREIGN = ("AWS_", "GUNICORN_", "MLFLOW_", "_MLFLOW_", "PG", "PREFECT_", "REGIOLECT_", "UVICORN_", "WEED_")
_NO_PROXY = ("NO_PROXY", "no_proxy")


def _nothing() -> None:
    """No preparation is needed."""


@dataclass(frozen=True)
class Place:
    """What the servers share: where they write, their secrets, and everybody's ports.

    ports: by server, then by use; only of servers that have some.
    buckets: those that are made if they are not there.
    """

    root: Path
    credentials: Credentials = field(repr=False)
    ports: Mapping[str, Mapping[str, int]]
    buckets: tuple[str, ...] = ()

    def folder(self, name: str) -> Path:
        return self.root / name

    def log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"


@dataclass(frozen=True)
class Server:
    """One server.

    address: where its clients reach it, without secrets.
    command: program and arguments, without secrets.
    environment: what it gets beside the caller's own environment.
    folder: where it runs; made before it starts.
    log: what it prints.
    check: what is wrong with it, None if it answers as it should; asks the server itself and returns within seconds.
    before: run before every start; makes what is not there yet.
    after: run when it is well; makes what is not there yet.
    start_seconds: how long it may do nothing on its way up until it is given up.
    stop_signal, stop_seconds: how it is asked to stop, and how long it is waited for before it is killed.
    """

    name: str
    address: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)
    folder: Path
    log: Path
    check: Callable[[], str | None] = field(repr=False)
    before: Callable[[], object] = field(default=_nothing, repr=False)
    after: Callable[[], object] = field(default=_nothing, repr=False)
    start_seconds: float = 120.0
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 15.0

    def recipe(self) -> str:
        """Digest of all that makes the server what it is."""
        return digest_of({"command": self.command, "environment": dict(self.environment)})

    def whole_environment(self) -> dict[str, str]:
        """The caller's environment less what belongs to servers, and this server's own on top."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        for name in _NO_PROXY:
            inherited[name] = ",".join(filter(None, (inherited.get(name), HOST, "localhost")))
        return {**inherited, **self.environment}


def http_problem(urls: Iterable[str]) -> str | None:
    """The first of these addresses of this machine that does not answer with status 200, and why; None if all do."""
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    for url in urls:
        try:
            with direct.open(url, timeout=ANSWER_SECONDS) as answer:
                if answer.status != http.HTTPStatus.OK:
                    return f"{url} answers {answer.status}"
        except urllib.error.HTTPError as error:
            with error:
                return f"{url} answers {error.code}"
        except (OSError, http.client.HTTPException) as error:
            return f"{url}: {getattr(error, 'reason', None) or error}"
    return None

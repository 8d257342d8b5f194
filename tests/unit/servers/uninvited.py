"""Somebody on this machine who has no credential, and asks whatever listens for everything that comes to mind."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from regiolect.servers import certificates
from tests.patience import PATIENCE

SECONDS = 10.0
# Beginning of every HTTP/2 connection, and with it of every one of gRPC: the preface and empty settings.
HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
SETTINGS = 4
# Each is put to every port that speaks HTTP, whichever server it is meant for.
REQUESTS: tuple[tuple[str, str], ...] = (
    # Object store: lists, files, collections, accounts, volumes.
    ("GET", "/"),
    ("GET", "/regiolect-eu"),
    ("GET", "/regiolect-eu/private"),
    ("GET", "/buckets/regiolect-eu/private"),
    ("GET", "/buckets/?limit=9"),
    ("GET", "/1,01637037d6"),
    ("GET", "/col/delete?collection=regiolect-eu"),
    ("GET", "/dir/assign"),
    ("GET", "/dir/lookup?volumeId=1"),
    ("GET", "/dir/status"),
    ("GET", "/vol/grow?count=1"),
    ("GET", "/vol/vacuum"),
    ("GET", "/cluster/status"),
    ("GET", "/cluster/healthz"),
    ("GET", "/healthz"),
    ("GET", "/status"),
    ("GET", "/stats/disk"),
    ("GET", "/ui/index.html"),
    ("GET", "/debug/pprof/"),
    ("GET", "/metrics"),
    ("PUT", "/regiolect-stolen"),
    ("PUT", "/regiolect-eu/planted"),
    ("PUT", "/buckets/regiolect-eu/planted"),
    ("POST", "/"),
    ("POST", "/?Action=CreateUser&UserName=me"),
    ("POST", "/submit"),
    ("POST", "/1,01637037d6"),
    ("DELETE", "/regiolect-eu"),
    ("DELETE", "/regiolect-eu/private"),
    ("DELETE", "/buckets/regiolect-eu?recursive=true"),
    ("DELETE", "/1,01637037d6"),
    # Prefect.
    ("GET", "/ui-settings"),
    ("GET", "/openapi.json"),
    ("GET", "/docs"),
    ("GET", "/api/health"),
    ("GET", "/api/ready"),
    ("GET", "/api/version"),
    ("GET", "/api/docs"),
    ("GET", "/api/csrf-token?client=me"),
    ("GET", "/api/admin/settings"),
    ("POST", "/api/flow_runs/filter"),
    ("POST", "/api/block_documents/filter"),
    ("POST", "/api/work_pools/"),
    ("POST", "/api/deployments/"),
    ("POST", "/api/admin/database/clear"),
    ("DELETE", "/api/work_pools/control"),
    # MLflow.
    ("GET", "/health"),
    ("GET", "/version"),
    ("GET", "/server-info"),
    ("GET", "/signup"),
    ("GET", "/api/3.0/mlflow/server-info"),
    ("GET", "/api/2.0/mlflow/registered-models/search"),
    ("GET", "/ajax-api/2.0/mlflow/registered-models/search"),
    ("GET", "/api/2.0/mlflow/users/list"),
    ("GET", "/api/2.0/mlflow-artifacts/artifacts"),
    ("GET", "/get-artifact?path=x"),
    ("POST", "/graphql"),
    ("POST", "/api/2.0/mlflow/registered-models/create"),
    ("POST", "/api/2.0/mlflow/users/create"),
    ("PUT", "/api/2.0/mlflow-artifacts/artifacts/planted"),
    ("DELETE", "/api/2.0/mlflow/registered-models/delete?name=kept"),
)

# What each port may answer to somebody without any credential: that it is there, and what says nothing of the data. A
# use that is not listed is a test that fails: whoever opens a port says here what it tells.
HARMLESS: dict[str, set[tuple[str, str]]] = {
    "s3.s3": {("GET", "/healthz"), ("GET", "/status")},
    # Its only page, whatever is sent there: which servers there are.
    "s3.master": {
        *(("GET", path) for path in ("/", "/ui/index.html", "/healthz", "/cluster/status", "/cluster/healthz")),
        *(("POST", path) for path in ("/", "/?Action=CreateUser&UserName=me")),
    },
    # How much room there is.
    "s3.volume": {("GET", "/healthz"), ("GET", "/status")},
    "s3.filer": set(),
    "mlflow.http": {("GET", "/health"), ("GET", "/api/3.0/mlflow/server-info")},
    # The pages' own files, which then ask for the login.
    "prefect.http": {
        ("GET", path) for path in ("/", "/ui-settings", "/openapi.json", "/docs", "/api/health", "/api/ready")
    },
}
GRPC = {f"s3.{part}.grpc" for part in ("master", "volume", "filer", "s3")}
SQL = {"postgres.sql"}


def listening(members: Sequence[psutil.Process]) -> Iterator[tuple[str, int] | str]:
    """Address of every socket on which one of these processes waits for others: host and port, or a file."""
    seen: set[Any] = set()
    for member in members:
        # PostgreSQL's processes come and go with their clients.
        with suppress(psutil.NoSuchProcess):
            for found in member.net_connections("all"):
                unix = found.family == socket.AF_UNIX
                address: Any = found.laddr if unix or found.status == psutil.CONN_LISTEN else None
                if address and address not in seen:
                    seen.add(address)
                    yield address if unix else (address.ip, address.port)


def answers(address: tuple[str, int] | str) -> dict[tuple[str, str], int]:
    """The requests of REQUESTS that were not refused, with the status of each."""
    found = {}
    unix = isinstance(address, str)
    transport = httpx.HTTPTransport(uds=address) if isinstance(address, str) else httpx.HTTPTransport()
    site = "http://127.0.0.1" if unix else "http://{}:{}".format(*address)
    with httpx.Client(transport=transport, trust_env=False, timeout=PATIENCE) as client:
        for method, path in REQUESTS:
            body = b"{}" if method in ("POST", "PUT") else None
            status = client.request(
                method, site + path, content=body, headers={"Content-Type": "application/json"}
            ).status_code
            if status < 400:
                found[method, path] = status
    return found


def speaks_grpc(address: tuple[str, int] | str, tls: Path | None = None, own: Path | None = None) -> bool:
    """Whether a gRPC server goes on with somebody who says hello.

    Args:
        tls: a set of certificates whose authority the server is taken by; without it there is no TLS.
        own: the set that the client's own certificate is of, where it has one.
    """
    if isinstance(address, str):
        plain = socket.socket(socket.AF_UNIX)
        plain.settimeout(SECONDS)
        plain.connect(address)
    else:
        plain = socket.create_connection(address, timeout=SECONDS)
    with closing(plain):
        try:
            # A server that refuses a certificate says so only when it is asked for something.
            with closing(plain if tls is None else _wrapped(plain, tls, own)) as connection:
                connection.sendall(HELLO)
                return connection.recv(9)[3:4] == bytes((SETTINGS,))
        except (ssl.SSLError, ConnectionError):
            return False


def _wrapped(plain: socket.socket, tls: Path, own: Path | None) -> ssl.SSLSocket:
    context = ssl.create_default_context(cafile=str(tls / certificates.AUTHORITY))
    context.set_alpn_protocols(["h2"])
    if own is not None:
        context.load_cert_chain(own / certificates.certificate("client"), own / certificates.key("client"))
    return context.wrap_socket(plain, server_hostname="localhost")

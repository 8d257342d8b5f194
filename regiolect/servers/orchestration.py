"""The Prefect server with its UI: its tables in PostgreSQL, leases of concurrency slots in files.

Leases in files outlive a server that is killed; the default keeps them in memory. Everything but its two health checks
and its pages' own files asks for the login, and it answers under its own address alone: who may use Prefect may run
code on its workers.
"""

from __future__ import annotations

from functools import partial

from regiolect.servers import own_hosts, postgresql
from regiolect.servers.files import make_folder
from regiolect.servers.ports import HOST
from regiolect.servers.server import PYTHON, Place, Server, http_problem

NAME = "prefect"
PORTS = {"http": 4200}
_USER = "regiolect"


def orchestration(place: Place) -> Server:
    """The Prefect server of `place`. It makes its tables before it answers."""
    port = place.ports[NAME]["http"]
    # Its own copy: the default is one in the installed package, which may be read-only and is shared with others.
    pages = place.folder(NAME) / "ui"
    return Server(
        name=NAME,
        address=address(place),
        # What `prefect server start` runs, with a look at the Host header before it.
        command=(
            *(*PYTHON, "uvicorn", "--factory", f"{own_hosts.__name__}:{own_hosts.application.__name__}"),
            *("--host", HOST, "--port", str(port), "--log-level", "warning"),
        ),
        environment={
            **postgresql.client_environment(place),
            own_hosts.APPLICATION: "prefect.server.api.server:create_app",
            own_hosts.HOSTS: f"{HOST},localhost",
            # The one application of its process, which then needs less memory.
            "PREFECT__SERVER_FINAL": "1",
            # Leases are written to its folder concurrency_leases.
            "PREFECT_HOME": str(place.folder(NAME)),
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_API_AUTH_STRING": login(place),
            # For what the server asks itself, by its own client.
            "PREFECT_API_AUTH_STRING": login(place),
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}:{port}" for name in (HOST, "localhost")),
            "PREFECT_SERVER_UI_API_URL": address(place),
            "PREFECT_SERVER_DATABASE_CONNECTION_URL": postgresql.database_url(place, "asyncpg", "prefect"),
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(pages),
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
            "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
            "DO_NOT_TRACK": "1",
        },
        folder=place.folder(NAME),
        log=place.log(NAME),
        check=partial(http_problem, (f"{address(place)}/health", f"{address(place)}/ready")),
        before=partial(make_folder, pages),
    )


def address(place: Place) -> str:
    """What PREFECT_API_URL has to say."""
    return f"http://{HOST}:{place.ports[NAME]['http']}/api"


def login(place: Place) -> str:
    """User and password, as its pages ask for them and clients send them."""
    return f"{_USER}:{place.credentials.prefect_password}"


def client_environment(place: Place) -> dict[str, str]:
    """What a client needs to find the server and be let in."""
    return {"PREFECT_API_URL": address(place), "PREFECT_API_AUTH_STRING": login(place)}

"""The Prefect server with its UI: its tables in PostgreSQL, leases of concurrency slots in files.

Leases in files outlive a server that is killed; the default keeps them in memory.
"""

from __future__ import annotations

from functools import partial

from regiolect.servers import postgresql
from regiolect.servers.files import make_folder
from regiolect.servers.ports import HOST
from regiolect.servers.server import PYTHON, Place, Server, http_problem

NAME = "prefect"
PORTS = {"http": 4200}


def orchestration(place: Place) -> Server:
    """The Prefect server of `place`. It makes its tables before it answers."""
    port = place.ports[NAME]["http"]
    # Its own copy: the default is one in the installed package, which may be read-only and is shared with others.
    pages = place.folder(NAME) / "ui"
    return Server(
        name=NAME,
        address=address(place),
        command=(*PYTHON, "prefect", "server", "start", "--host", HOST, "--port", str(port)),
        environment={
            **postgresql.client_environment(place),
            # Leases are written to its folder concurrency_leases.
            "PREFECT_HOME": str(place.folder(NAME)),
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
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

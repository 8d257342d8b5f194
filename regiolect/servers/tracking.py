"""The MLflow server: its tables in PostgreSQL, its artifacts in S3 by way of the server."""

from __future__ import annotations

from functools import partial

from regiolect.servers import object_store, postgresql
from regiolect.servers.ports import HOST
from regiolect.servers.server import PYTHON, Place, Server, http_problem

NAME = "mlflow"
PORTS = {"http": 5000}
BUCKET = "regiolect-mlflow"


def tracking(place: Place) -> Server:
    """The MLflow server of `place`. It makes its tables before it answers, one process for all workers."""
    port = place.ports[NAME]["http"]
    return Server(
        name=NAME,
        address=address(place),
        command=(*PYTHON, "mlflow", "server", "--host", HOST, "--port", str(port), "--workers", "1"),
        environment={
            **postgresql.client_environment(place),
            **object_store.client_environment(place),
            "MLFLOW_BACKEND_STORE_URI": postgresql.database_url(place, "psycopg2", "mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        },
        folder=place.folder(NAME),
        log=place.log(NAME),
        check=partial(http_problem, (f"{address(place)}/health",)),
    )


def address(place: Place) -> str:
    """What MLFLOW_TRACKING_URI has to say."""
    return f"http://{HOST}:{place.ports[NAME]['http']}"

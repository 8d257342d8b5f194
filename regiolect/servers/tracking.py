"""The MLflow server: its tables in PostgreSQL, its artifacts in S3 by way of the server.

Everything but its health check and its pages' own files asks for the login. Further accounts are made in its pages.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from regiolect.servers import object_store, postgresql
from regiolect.servers.files import write_private
from regiolect.servers.ports import HOST
from regiolect.servers.server import PYTHON, Place, Server, http_problem

NAME = "mlflow"
PORTS = {"http": 5000}
BUCKET = "regiolect-mlflow"
_USER = "regiolect"
# MLflow reads where its accounts are from a file only. Passwords are hashed slowly on purpose: a right one is kept in
# mind for a while, or every request would wait for it.
_LOGIN = """\
[mlflow]
default_permission = NO_PERMISSIONS
database_uri = {database}
auth_cache_ttl_seconds = 300
"""


def tracking(place: Place) -> Server:
    """The MLflow server of `place`. It makes its tables before it answers, one process for all workers."""
    port = place.ports[NAME]["http"]
    folder = place.folder(NAME)
    names = ",".join(f"{name}:{port}" for name in (HOST, "localhost"))
    return Server(
        name=NAME,
        address=address(place),
        command=(
            *(*PYTHON, "mlflow", "server", "--app-name", "basic-auth"),
            *("--host", HOST, "--port", str(port), "--workers", "1"),
        ),
        environment={
            **postgresql.client_environment(place),
            **object_store.client_environment(place),
            "MLFLOW_BACKEND_STORE_URI": postgresql.database_url(place, "psycopg2", "mlflow"),
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/artifacts",
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_SERVER_ALLOWED_HOSTS": names,
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{name}" for name in names.split(",")),
            "MLFLOW_AUTH_CONFIG_PATH": str(_login_file(folder)),
            "MLFLOW_AUTH_ADMIN_USERNAME": _USER,
            "MLFLOW_AUTH_ADMIN_PASSWORD": place.credentials.mlflow_password,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": place.credentials.form_key,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "1",
        },
        folder=folder,
        log=place.log(NAME),
        check=partial(http_problem, (f"{address(place)}/health",)),
        before=partial(_prepare, place, folder),
    )


def address(place: Place) -> str:
    """What MLFLOW_TRACKING_URI has to say."""
    return f"http://{HOST}:{place.ports[NAME]['http']}"


def client_environment(place: Place) -> dict[str, str]:
    """What a client needs to find the server and be let in."""
    return {
        "MLFLOW_TRACKING_URI": address(place),
        "MLFLOW_TRACKING_USERNAME": _USER,
        "MLFLOW_TRACKING_PASSWORD": place.credentials.mlflow_password,
    }


def _login_file(folder: Path) -> Path:
    return folder / "login.ini"


def _prepare(place: Place, folder: Path) -> None:
    write_private(_login_file(folder), _LOGIN.format(database=postgresql.database_url(place, "psycopg2", "mlflow")))

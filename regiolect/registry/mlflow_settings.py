"""MLflow without its chatter. Knows nothing of MLflow but the names of its settings."""

from __future__ import annotations

import logging
import os

_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    # A server that goes away in the middle: five tries in about 15 s, where the default is eight in four minutes.
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",
    # MLflow logs what it also raises; our errors say it once.
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    # It would copy the working directory's uv.lock and pyproject.toml into every artifact.
    "MLFLOW_UV_AUTO_DETECT": "false",
}


def quiet_mlflow() -> None:
    """Settings that MLflow reads when it is imported or called; what the user set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    retries = logging.getLogger("urllib3.connectionpool")
    if retries.level == logging.NOTSET:
        retries.setLevel(logging.ERROR)

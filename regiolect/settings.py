"""Settings from the environment (REGIOLECT_*), and telemetry switched off for everything that is imported later.

Paths are made absolute once, when the settings are read, so that no later change of directory moves them.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pydantic import ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from regiolect.errors import InvalidSetting
from regiolect.storage import LocalStore

QUIET = {
    # Telemetry of every dependency is off unless the user turns it on.
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}


class Settings(BaseSettings):
    """Where things are.

    home: everything that Regiolect writes when nothing else is said: store, MLflow database, Prefect's home, reports.
    policies: folder of region policies; the built-in ones when unset.
    mlflow_tracking_uri: also read from MLFLOW_TRACKING_URI; a SQLite file in `home` when unset.
    """

    model_config = SettingsConfigDict(env_prefix="REGIOLECT_", frozen=True)

    home: Path = Path(".regiolect")
    policies: Path | None = None
    mlflow_tracking_uri: str | None = None

    @field_validator("home", "policies")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    @property
    def tracking_uri(self) -> str:
        given = self.mlflow_tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        return given or f"sqlite:///{self.home / 'mlflow.db'}"

    @property
    def artifact_root(self) -> Path:
        """Where MLflow keeps artifacts when it has no server of its own."""
        return self.home / "mlartifacts"

    def prefect_defaults(self) -> dict[str, str]:
        """What Prefect is told unless the user's environment says otherwise."""
        return {
            "PREFECT_HOME": str(self.home / "prefect"),
            "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
            # Task events are written a hundred at a time. One by one they keep an embedded server's SQLite so busy that
            # it turns down every other request of a flow, and Prefect asks again only after two seconds or more.
            "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
            # Regions built side by side in one process.
            "PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS": "2",
        }

    def store(self) -> LocalStore:
        return LocalStore(self.home / "store")


def load_settings() -> Settings:
    """Read the environment and silence telemetry.

    Raises:
        InvalidSetting: a REGIOLECT_ variable has an unusable value.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        settings = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = f"REGIOLECT_{str(first['loc'][0]).upper()}"
        raise InvalidSetting(
            expected=f"a usable value in {name}",
            found=f"{first['input']!r} ({first['msg']})",
            remedy=f"correct or unset {name}",
        ) from error
    # Read again later, also by other tasks and after a change of directory, they must give the same places.
    os.environ["REGIOLECT_HOME"] = str(settings.home)
    if settings.policies is not None:
        os.environ["REGIOLECT_POLICIES"] = str(settings.policies)
    for name, value in settings.prefect_defaults().items():
        os.environ.setdefault(name, value)
    return settings


def without_password(address: str) -> str:
    """A registry's address as a report may show it: `postgresql://me:***@host/db`."""
    return re.sub(r"(://[^/@:\s]*):[^/\s]*@", r"\1:***@", address)

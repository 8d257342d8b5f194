"""Settings from the environment (REGIOLECT_*), and telemetry switched off for everything that is imported later.

Paths are made absolute once, when the settings are read, so that no later change of directory moves them.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypedDict

from pydantic import Field, PositiveFloat, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from regiolect.contracts import RegionId
from regiolect.errors import InvalidSetting
from regiolect.host.lock import WAIT_SECONDS
from regiolect.host.processors import processors
from regiolect.storage import Store, find_store, open_store
from regiolect.storage.opening import PLACEHOLDER, check_location

if TYPE_CHECKING:
    from regiolect.signing.keyring import Keyring

QUIET = {
    # Telemetry of every dependency is off unless the user turns it on.
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "PREFECT_CLOUD_ENABLE_ORCHESTRATION_TELEMETRY": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
}

# Says in this process's environment that PREFECT_API_URL is the temporary server of this command.
TEMPORARY_SERVER = "REGIOLECT_TEMPORARY_SERVER"


class GivenSettings(TypedDict, total=False):
    """Settings of `Settings` that plans and releases may be given by keyword, named as their variables are: `store` in
    place of REGIOLECT_STORE. None: what the environment says.
    """

    home: Path | str | None
    store: Path | str | None
    mlflow_tracking_uri: str | None
    build_on: Literal["pools", "here"] | None
    worker_wait_seconds: float | None
    machine_wait_seconds: float | None
    signing_key: Path | str | None
    trust: Path | str | None
    isolation: Literal["on", "off"] | None
    child_memory_gib: float | None
    child_minutes: float | None


class Settings(BaseSettings):
    """Where things are.

    home: everything that Regiolect writes when nothing else is said: store, MLflow database, Prefect's home, reports.
    store_location: REGIOLECT_STORE, where artifacts are kept: a folder or `s3://bucket/prefix`, with `{region}` in it
        where each region has a place of its own; a folder in `home` for all of them when unset.
    policies: folder of region policies; the built-in ones when unset.
    mlflow_tracking_uri: also read from MLFLOW_TRACKING_URI; a SQLite file in `home` when unset.
    build_on: where engines are built: `pools` sends each to the work pool of its target, `here` builds in this process;
        when unset, pools if PREFECT_API_URL names a server.
    worker_wait_seconds: how long a build waits for a worker of its pool.
    machine_wait_seconds: how long work and timings wait for each other on one machine.
    notify: a notification block of Prefect's, `type/name`, through which the nightly sends its digest.
    models: addresses of ModelSpecs, separated by commas, that people may choose beside the installed entry points.
    signing_key: file of the private key that releases sign decisions with; in the user's configuration when unset.
    trust: file of the public keys whose signatures count here; beside the default key when unset.
    region: the region that this machine is in: engines of another region are not loaded on it; any when unset.
    isolation: `on` runs every stage of a release in which a vendor's library works in a child process; `off` runs it in
        this process, where a debugger finds it and a crash ends the whole release.
    child_memory_gib: memory that a child may have resident; four fifths of the machine's or container's when unset.
    child_minutes: how long one stage may work in its child, beside the minutes that a policy gives tuning or
        repair; less than others
        wait for the machine, so that what hangs there does not refuse them.
    image, image_gpu: the workers' image on Docker and Kubernetes pools; on pools of GPUs `image_gpu`, if it is set.
    """

    model_config = SettingsConfigDict(env_prefix="REGIOLECT_", frozen=True, validate_by_name=True)

    home: Path = Path(".regiolect")
    store_location: str | None = Field(default=None, validation_alias="REGIOLECT_STORE")
    policies: Path | None = None
    mlflow_tracking_uri: str | None = None
    build_on: Literal["pools", "here"] | None = None
    worker_wait_seconds: PositiveFloat = 600.0
    machine_wait_seconds: PositiveFloat = WAIT_SECONDS
    notify: str | None = None
    models: str = ""
    signing_key: Path | None = None
    trust: Path | None = None
    region: RegionId | None = None
    isolation: Literal["on", "off"] = "on"
    child_memory_gib: PositiveFloat | None = None
    child_minutes: PositiveFloat = 50.0
    image: str = ""
    image_gpu: str = ""

    @field_validator("signing_key", "trust", "region", mode="before")
    @classmethod
    def _unset_when_empty(cls, given: object) -> object:
        return given or None

    @field_validator("home", "policies", "signing_key", "trust")
    @classmethod
    def _absolute(cls, path: Path | None) -> Path | None:
        try:
            return None if path is None else path.expanduser().absolute()
        except RuntimeError as error:
            raise ValueError(str(error)) from error

    @field_validator("store_location")
    @classmethod
    def _location(cls, location: str | None) -> str | None:
        return None if location is None else check_location(location)

    @property
    def has_server(self) -> bool:
        """Whether flows report to a Prefect server that outlives them, where people see them and answer."""
        server = os.environ.get("PREFECT_API_URL")
        return bool(server) and server != os.environ.get(TEMPORARY_SERVER)

    @property
    def on_pools(self) -> bool:
        return self.has_server if self.build_on is None else self.build_on == "pools"

    @property
    def plans_at_once(self) -> int:
        """Models planned side by side: on S3 a plan waits for answers, on a disk it digests large files."""
        return 16 if (self.store_location or "").startswith("s3://") else min(4, processors())

    def known_models(self) -> tuple[str, ...]:
        """Names of the installed entry points, then the addresses in `models`: what a form offers for choice."""
        named = sorted(point.name for point in entry_points(group="regiolect.models"))
        listed = (address.strip() for address in self.models.split(","))
        return tuple(dict.fromkeys([*named, *filter(None, listed)]))

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

    def keyring(self) -> Keyring:
        """The key that releases sign with, and whose signatures count here."""
        from regiolect.signing.keyring import Keyring

        return Keyring.at(self.signing_key, self.trust)

    def store(self, region: str | None = None) -> Store:
        """The store of a region, or of what belongs to no region; opened once a process.

        Raises:
            StorageError: it cannot be opened, or is another region's.
        """
        return open_store(self._store_location, self.home / "cache", region)

    def find_store(self, region: str) -> Store | None:
        """The store of a region, which may have no policy any more; None where it never had one. Makes none.

        Raises:
            StorageError: it cannot be opened, or is another region's.
        """
        return find_store(self._store_location, self.home / "cache", region)

    @property
    def store_by_region(self) -> bool:
        """Whether each region has a store of its own."""
        return PLACEHOLDER in self._store_location

    @property
    def _store_location(self) -> str:
        return self.store_location or str(self.home / "store")


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
    if settings.store_location is not None:
        os.environ["REGIOLECT_STORE"] = settings.store_location
    if settings.signing_key is not None:
        os.environ["REGIOLECT_SIGNING_KEY"] = str(settings.signing_key)
    if settings.trust is not None:
        os.environ["REGIOLECT_TRUST"] = str(settings.trust)
    for name, value in settings.prefect_defaults().items():
        os.environ.setdefault(name, value)
    return settings


# Held while settings that were given to a call stand in the environment of all threads.
_given = threading.RLock()


@contextmanager
def settings_for(**given: object) -> Iterator[Settings]:
    """The settings of the environment, but for those that are given; these stand in the environment while the block
    lasts, where tasks and child processes read them, and are as they were before after it.

    Blocks that are given settings run one after another: other threads of the process see them as well.

    Args:
        given: settings by keyword, `store` for REGIOLECT_STORE; None counts as not given.

    Raises:
        InvalidSetting: one has an unusable value.
    """
    named = {f"REGIOLECT_{name.upper()}": str(value) for name, value in given.items() if value is not None}
    if not named:
        yield load_settings()
        return
    with _given:
        before = {name: os.environ.get(name) for name in named}
        os.environ.update(named)
        try:
            yield load_settings()
        finally:
            for name, value in before.items():
                os.environ.pop(name, None)
                if value is not None:
                    os.environ[name] = value


class OfARegion(Protocol):
    """What belongs to one region: a request, a policy, an outcome."""

    @property
    def region(self) -> str: ...


def store_of(what: OfARegion) -> Store:
    """The store of the region that something belongs to, by the settings of this moment.

    Raises:
        InvalidSetting: as `load_settings`.
        StorageError: as `Settings.store`.
    """
    return load_settings().store(what.region)


def shared_store() -> Store:
    """The store of what belongs to no region.

    Raises:
        InvalidSetting, StorageError: as `store_of`.
    """
    return load_settings().store()

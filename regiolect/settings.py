"""Settings from the environment (REGIOLECT_*) and a project's file, and telemetry off for what is imported later.

The environment goes before the file, and both before defaults. Paths are made absolute once, when the settings are
read, and what the file states stands in the environment from then on: no later change of directory or file moves it,
and child processes find it.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypedDict

from pydantic import Field, PositiveFloat, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from regiolect.contracts import RegionId
from regiolect.errors import InvalidSetting
from regiolect.host.lock import WAIT_SECONDS
from regiolect.host.processors import processors
from regiolect.host.project_file import ProjectFile, find_project_file
from regiolect.storage import Store, find_store, open_store
from regiolect.storage.opening import PLACEHOLDER, check_location, is_address

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

# Says in this process's environment which file settings were read from: it is not read a second time.
PROJECT_FILE = "REGIOLECT_PROJECT_FILE"

# What a machine or a person says, and no folder that happens to be worked in: whose signatures count, above all.
OF_THE_MACHINE = ("signing_key", "trust", "region")


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
    model: address of the ModelSpec that a command takes when it is told none; people may choose it as one of `models`.
    models: addresses of ModelSpecs, separated by commas or as a list, that people may choose beside the installed entry
        points.
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
    model: str | None = None
    models: str = ""
    signing_key: Path | None = None
    trust: Path | None = None
    region: RegionId | None = None
    isolation: Literal["on", "off"] = "on"
    child_memory_gib: PositiveFloat | None = None
    child_minutes: PositiveFloat = 50.0
    image: str = ""
    image_gpu: str = ""

    @field_validator("worker_wait_seconds", "machine_wait_seconds", "child_memory_gib", "child_minutes", mode="before")
    @classmethod
    def _no_truth(cls, given: object) -> object:
        # Python takes true for 1.
        if isinstance(given, bool):
            raise ValueError("a number is asked for")
        return given

    @field_validator("models", mode="before")
    @classmethod
    def _listed(cls, given: object) -> object:
        if isinstance(given, list) and all(isinstance(each, str) for each in given):
            return ",".join(given)
        return given

    @field_validator("model", "signing_key", "trust", "region", mode="before")
    @classmethod
    def _unset_when_empty(cls, given: object) -> object:
        return None if given == "" else given

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
        """Names of the installed entry points, then the addresses in `models` and `model`: what a form offers."""
        named = sorted(point.name for point in entry_points(group="regiolect.models"))
        listed = (address.strip() for address in (*self.models.split(","), self.model or ""))
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


def variable(field: str) -> str:
    """What the environment calls a field of `Settings`: REGIOLECT_STORE for `store_location`."""
    alias = Settings.model_fields[field].validation_alias
    return alias if isinstance(alias, str) else f"REGIOLECT_{field.upper()}"


def key(field: str) -> str:
    """What a project's file calls a field of `Settings`: `store` for `store_location`."""
    return variable(field).removeprefix("REGIOLECT_").lower()


def load_settings() -> Settings:
    """Read the environment and the project's file, and silence telemetry.

    Raises:
        InvalidSetting: a REGIOLECT_ variable or a key of the file has an unusable value, or there is no such key.
    """
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    file = None if os.environ.get(PROJECT_FILE) else find_project_file(Path.cwd())
    stated = {} if file is None else _stated(file)
    try:
        settings = Settings(**stated)
    except ValidationError as error:
        raise _unusable(error, file, stated) from error
    # Read again later, also by other tasks and after a change of directory, they must give the same places.
    for field in ("home", "policies", "store_location", "signing_key", "trust", *stated):
        if getattr(settings, field) is not None:
            os.environ[variable(field)] = str(getattr(settings, field))
    if file is not None:
        os.environ[PROJECT_FILE] = str(file.path)
    for name, value in settings.prefect_defaults().items():
        os.environ.setdefault(name, value)
    return settings


def project_folder() -> Path | None:
    """The folder of the file that settings were read from: its models are imported from there."""
    file = os.environ.get(PROJECT_FILE)
    return Path(file).parent if file else None


def _stated(file: ProjectFile) -> dict[str, Any]:
    """What a project's file says of settings that the environment does not have; paths are from the file's folder."""
    fields = {key(field): field for field in Settings.model_fields if field not in OF_THE_MACHINE}
    for name in file.stated:
        if name not in fields:
            raise InvalidSetting(
                expected=f"settings in {file}: {', '.join(fields)}",
                found=f"the key {name!r}",
                remedy=_other_than(name, list(fields)),
            )
    # What is written goes beside the file, in whichever folder below it a command is typed.
    given = {"home": ".regiolect", **file.stated}
    unsaid = {fields[name]: value for name, value in given.items() if not _in_environment(fields[name])}
    return {field: _placed(field, value, file) for field, value in unsaid.items()}


def _other_than(name: str, names: list[str]) -> str:
    if name in OF_THE_MACHINE:
        own = f"remove it, and set {variable(name)} on the machine"
        return f"{own}: a project does not say where it runs or whose signatures count"
    near = difflib.get_close_matches(name, names, n=1)
    return f"did you mean {near[0]}?" if near else "remove it, or correct its name"


def _in_environment(field: str) -> bool:
    own = (variable(field), "MLFLOW_TRACKING_URI") if field == "mlflow_tracking_uri" else (variable(field),)
    return any(os.environ.get(name) for name in own)


def _placed(field: str, value: object, file: ProjectFile) -> object:
    """A path from the folder of the file that states it; anything else as it is."""
    if field not in ("home", "policies", "store_location") or not isinstance(value, str):
        return value
    is_store = field == "store_location"
    stays = value.startswith("~") or (is_store and is_address(value))
    placed = value if stays else str(file.path.parent / value)
    return check_location(placed, f"`store` in {file}") if is_store else placed


def _unusable(error: ValidationError, file: ProjectFile | None, stated: Mapping[str, object]) -> InvalidSetting:
    """Whose value it is: the file's or the environment's."""
    first = error.errors()[0]
    field = next(name for name in Settings.model_fields if str(first["loc"][0]) in (name, variable(name)))
    if file is not None and field in stated:
        name = key(field)
        return InvalidSetting(
            expected=f"a usable value of `{name}` in {file}",
            found=f"{name} = {first['input']!r} ({first['msg']})",
            remedy="correct it, or remove the line",
        )
    return InvalidSetting(
        expected=f"a usable value in {variable(field)}",
        found=f"{first['input']!r} ({first['msg']})",
        remedy=f"correct or unset {variable(field)}",
    )


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
        # What is read from a file in this block belongs to it as well.
        variables = (*map(variable, Settings.model_fields), PROJECT_FILE)
        before = {name: os.environ.get(name) for name in (*named, *variables)}
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

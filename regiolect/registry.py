"""The model registry: everything of MLflow that Regiolect uses, behind one class. The only importer of mlflow.

A registered model is one (model, region), named `<model>-<region>`. Its versions are bundles, found again by their
digest. Three aliases: `champion` is what consumers load, `previous` the champion before it, `challenger` a version
that is registered and not (yet) champion.

MLflow's fluent interface keeps global state that threads would share, so only MlflowClient with explicit URIs is used.
"""

from __future__ import annotations

import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regiolect.bundle import MANIFEST, BundleManifest, read_bundle, verify_bundle
from regiolect.contracts import RegisteredEngine
from regiolect.errors import IntegrityError, RegistryError
from regiolect.integrity import digest_file
from regiolect.quiet import quiet_mlflow
from regiolect.reachable import one_line, remedy, require_answer, sqlite_file
from regiolect.registry_tags import figures, labels, registered_engine, require_owner
from regiolect.serving import requirements
from regiolect.settings import without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import RegisteredModel
    from mlflow.models import ModelSignature

ClientFactory = Callable[[str], "MlflowClient"]

CHAMPION, PREVIOUS, CHALLENGER = "champion", "previous", "challenger"
# Inside an MLflow run: the model, and in it the bundle.
_MODEL = "model"
_BUNDLE = f"{_MODEL}/data/bundle"
_LOCK_SECONDS = 300.0
_PROBE_SECONDS = 5.0
_VENDOR_ERRORS = (
    ("mlflow.exceptions", "MlflowException"),
    ("sqlalchemy.exc", "SQLAlchemyError"),
    ("alembic.util", "CommandError"),
)


def _client(tracking_uri: str) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracking_uri, registry_uri=tracking_uri)


class Registry:
    """The registry at one MLflow tracking URI. Safe to use from several threads, and from several processes.

    Args:
        tracking_uri: `sqlite:///<file>` or the address of an MLflow server.
        artifact_root: folder for the artifacts of a SQLite store; beside the database when None. A server decides
            for itself where artifacts go.
        client_factory: makes the MlflowClient; tests inject faults through it.
    """

    def __init__(
        self, tracking_uri: str, artifact_root: Path | None = None, client_factory: ClientFactory = _client
    ) -> None:
        self.tracking_uri = tracking_uri
        self._factory = client_factory
        self._shown = without_password(tracking_uri)
        self._database = sqlite_file(tracking_uri)
        self._artifacts = None
        if self._database is not None:
            self._artifacts = (artifact_root or self._database.parent / "mlartifacts").absolute()
        self._opened: MlflowClient | None = None
        self._opening = threading.Lock()

    def register(self, folder: Path, manifest: BundleManifest, champion: bool) -> RegisteredEngine:
        """Make a bundle a version of `<model>-<region>`, and its champion if asked.

        The same bundle is registered once: a second call finds the version, mends what an interrupted call left
        undone, and sets the aliases. Whatever call fails, `champion` is the old version or the new one. A version
        that is champion already stays champion.

        Raises:
            IntegrityError: the bundle is not what `manifest` says.
            RegistryError: the name is another model's or region's, and nothing was written; or MLflow failed, and
                calling again completes what was begun.
        """
        if read_bundle(folder) != manifest:
            raise IntegrityError(
                expected=f"the bundle of {manifest.name} at {folder}",
                found="a bundle with another manifest",
                remedy="pass the manifest that write_bundle returned for this folder",
            )
        verify_bundle(folder, manifest)
        digest = digest_file(folder / MANIFEST)
        client = self._open()
        with self._named_errors(f"to register {manifest.name} at {self._shown}"), self._one_at_a_time():
            self._owned(client, manifest.model, manifest.region)
            found = client.search_model_versions(f"name = '{manifest.name}' and tags.bundle = '{digest}'")
            # Two registrations of one bundle through a server may both have made a version; all agree on the first.
            version = min((int(each.version) for each in found), default=None)
            if version is None:
                run = self._run_of(client, manifest, digest)
            else:
                run = client.get_run(str(client.get_model_version(manifest.name, str(version)).run_id))
            if not self._is_complete(client, run, folder, manifest, digest):
                self._upload(client, run, folder, manifest, digest)
            if version is None:
                version = self._new_version(client, run, manifest, digest)
            is_champion = self._point(client, manifest.name, version, champion)
        return registered_engine(manifest.name, version, is_champion, labels(manifest, digest))

    def by_alias(self, name: str, alias: str) -> RegisteredEngine | None:
        """The version of `<model>-<region>` that an alias points at, or None if there is none. Makes no database."""
        if self._is_absent():
            return None
        client = self._open()
        with self._named_errors(f"to read {name} at {self._shown}"):
            return self._version_at(client, self._model(client, name), alias)

    def champion(self, model: str, region: str) -> RegisteredEngine | None:
        """The version that consumers load, or None if there is none yet; for whoever is about to register another.

        Raises:
            RegistryError: the name is another model's or region's.
        """
        client = self._open()
        with self._named_errors(f"to read {model}-{region} at {self._shown}"):
            return self._version_at(client, self._owned(client, model, region), CHAMPION)

    @contextmanager
    def downloaded(self, version: RegisteredEngine) -> Iterator[Path]:
        """A version's bundle in a folder to read from while the block lasts. Its files are not verified yet.

        Raises:
            IntegrityError: its manifest is not the one that was registered.
            RegistryError: it cannot be read; an absent database is not made.
        """
        if self._is_absent():
            raise RegistryError(
                expected=f"{version.uri} at {self._shown}",
                found="no such file",
                remedy="correct MLFLOW_TRACKING_URI, or release the region first",
            )
        client = self._open()
        with tempfile.TemporaryDirectory() as scratch:
            with self._named_errors(f"to read {version.uri} at {self._shown}"):
                found = client.get_model_version(version.name, str(version.version))
                folder = Path(client.download_artifacts(str(found.run_id), _BUNDLE, scratch))
                digest = digest_file(folder / MANIFEST)
            if digest != found.tags.get("bundle"):
                raise IntegrityError(
                    expected=f"the manifest of {version.uri} with {found.tags.get('bundle')}",
                    found=digest,
                    remedy="the artifact was changed after it was registered: release the region again",
                )
            yield folder

    def log_report(self, model: str, report: Path, metrics: Mapping[str, float]) -> str:
        """Keep a run's report, with figures, as an MLflow run in the experiment `regiolect/<model>`.

        Returns:
            The URI of the kept report.
        """
        client = self._open()
        with self._named_errors(f"to log {report} at {self._shown}"), self._one_at_a_time():
            run = client.create_run(self._experiment(client, model), run_name="report", tags={"model": model})
            client.log_artifact(run.info.run_id, str(report))
            self._finish(client, run, metrics)
            return f"{run.info.artifact_uri}/{report.name}"

    # -------------------------------------------------------------------------------------------- opening

    def _is_absent(self) -> bool:
        return self._database is not None and not self._database.exists()

    def _open(self) -> MlflowClient:
        """The client of a store that answered; the first call makes an absent SQLite file."""
        with self._opening:
            if self._opened is None:
                quiet_mlflow()
                with self._named_errors(f"an MLflow registry at {self._shown}"), self._one_at_a_time():
                    if self.tracking_uri.startswith(("http://", "https://")):
                        # MLflow itself would try for minutes.
                        require_answer(f"{self.tracking_uri.rstrip('/')}/health", _PROBE_SECONDS)
                    client = self._factory(self.tracking_uri)
                    # The first question to a cold SQLite file creates its tables; several processes at once fail.
                    client.search_experiments(max_results=1)
                    client.search_registered_models(max_results=1)
                    self._opened = client
            return self._opened

    def _one_at_a_time(self) -> AbstractContextManager[object]:
        """Excludes other threads and processes from a SQLite store; a server orders its callers by itself."""
        if self._database is None:
            return nullcontext()
        from filelock import FileLock

        self._database.parent.mkdir(parents=True, exist_ok=True)
        return FileLock(f"{self._database}.lock", timeout=_LOCK_SECONDS)

    @contextmanager
    def _named_errors(self, wanted: str) -> Iterator[None]:
        try:
            yield
        except ImportError as error:
            raise RegistryError(
                expected=wanted,
                found=f"{error} ({type(error).__name__})",
                remedy="pip install 'regiolect[registry]'; for a database other than SQLite also the driver named here",
            ) from error
        except _vendor_errors() as error:
            text = str(error).strip() or type(error).__name__
            # A cause is printed with all that it says.
            cause = error if without_password(text) == text else None
            mend = remedy(text, self.tracking_uri)
            raise RegistryError(expected=wanted, found=one_line(text), remedy=mend) from cause

    # -------------------------------------------------------------------------------------------- registering

    def _experiment(self, client: MlflowClient, model: str) -> str:
        from mlflow.exceptions import MlflowException

        name = f"regiolect/{model}"
        location = None if self._artifacts is None else (self._artifacts / model).as_uri()
        if client.get_experiment_by_name(name) is None:
            try:
                return client.create_experiment(name, artifact_location=location)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":
                    raise
        found = client.get_experiment_by_name(name)
        if found is None or found.lifecycle_stage != "active":
            raise RegistryError(
                expected=f"an active MLflow experiment {name!r}",
                found="a deleted one",
                remedy="restore it: mlflow experiments restore, or remove it for good: mlflow gc",
            )
        return str(found.experiment_id)

    def _run_of(self, client: MlflowClient, manifest: BundleManifest, digest: str) -> Run:
        """The run that holds this bundle, or will: an interrupted registration's is taken up again."""
        experiment = self._experiment(client, manifest.model)
        runs = client.search_runs(
            [experiment], f"tags.bundle = '{digest}'", max_results=1, order_by=["attributes.start_time ASC"]
        )
        if runs:
            return runs[0]
        return client.create_run(experiment, run_name=manifest.name, tags=labels(manifest, digest))

    @staticmethod
    def _is_complete(client: MlflowClient, run: Run, folder: Path, manifest: BundleManifest, digest: str) -> bool:
        """Whether the run ended well and its artifact is still there, file by file."""
        if run.info.status != "FINISHED":
            return False
        kept = dict(_listing(client, run.info.run_id, _MODEL))
        wanted = {f"{_BUNDLE}/{path}": (folder / path).stat().st_size for path, _ in manifest.files()}
        if f"{_MODEL}/MLmodel" not in kept or f"{_BUNDLE}/{MANIFEST}" not in kept:
            return False
        if any(kept.get(path) != size for path, size in wanted.items()):
            return False
        with tempfile.TemporaryDirectory() as scratch:
            path = client.download_artifacts(run.info.run_id, f"{_BUNDLE}/{MANIFEST}", scratch)
            return digest_file(Path(path)) == digest

    def _upload(self, client: MlflowClient, run: Run, folder: Path, manifest: BundleManifest, digest: str) -> None:
        import mlflow.pyfunc
        from mlflow.models import Model

        with tempfile.TemporaryDirectory() as scratch:
            # What is verified is the copy that is uploaded, not a folder that may still change.
            copy = Path(scratch) / "bundle"
            shutil.copytree(folder, copy)
            verify_bundle(copy, manifest)
            mlflow.pyfunc.save_model(
                path=f"{scratch}/{_MODEL}",
                loader_module="regiolect.serving",
                data_path=str(copy),
                mlflow_model=Model(signature=_signature(manifest), metadata=labels(manifest, digest)),
                pip_requirements=list(requirements(manifest)),
            )
            client.log_artifacts(run.info.run_id, f"{scratch}/{_MODEL}", _MODEL)
        self._finish(client, run, figures(manifest))

    @staticmethod
    def _finish(client: MlflowClient, run: Run, metrics: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        client.log_batch(run.info.run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
        client.set_terminated(run.info.run_id)

    @staticmethod
    def _new_version(client: MlflowClient, run: Run, manifest: BundleManifest, digest: str) -> int:
        from mlflow.exceptions import MlflowException

        try:
            client.create_registered_model(
                manifest.name, tags={"model": manifest.model, "region": manifest.region}, description=manifest.title
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{run.info.artifact_uri}/{_MODEL}"
        made = client.create_model_version(manifest.name, source, run.info.run_id, tags=labels(manifest, digest))
        return int(made.version)

    def _point(self, client: MlflowClient, name: str, version: int, champion: bool) -> bool:
        """Set the aliases, each call leaving a state that can be served and taken up from. Returns: is champion."""
        aliases = self._aliases(client, name)
        current = aliases.get(CHAMPION)
        if current != version:
            if aliases.get(CHALLENGER) != version:
                client.set_registered_model_alias(name, CHALLENGER, str(version))
            if not champion:
                return False
            if current is not None and aliases.get(PREVIOUS) != current:
                client.set_registered_model_alias(name, PREVIOUS, str(current))
            client.set_registered_model_alias(name, CHAMPION, str(version))
        if self._aliases(client, name).get(CHALLENGER) == version:
            client.delete_registered_model_alias(name, CHALLENGER)
        return True

    def _aliases(self, client: MlflowClient, name: str) -> dict[str, int]:
        model = self._model(client, name)
        return {} if model is None else {alias: int(version) for alias, version in model.aliases.items()}

    @staticmethod
    def _model(client: MlflowClient, name: str) -> RegisteredModel | None:
        from mlflow.exceptions import MlflowException

        try:
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def _owned(self, client: MlflowClient, model: str, region: str) -> RegisteredModel | None:
        found = self._model(client, f"{model}-{region}")
        if found is not None:
            require_owner(found.name, model, region, found.tags)
        return found

    @staticmethod
    def _version_at(client: MlflowClient, model: RegisteredModel | None, alias: str) -> RegisteredEngine | None:
        if model is None or alias not in model.aliases:
            return None
        version = model.aliases[alias]
        tags = client.get_model_version(model.name, str(version)).tags
        return registered_engine(model.name, int(version), version == model.aliases.get(CHAMPION), tags)


def _vendor_errors() -> tuple[type[Exception], ...]:
    """What MLflow and the libraries below it raise; what cannot be imported has not raised anything."""
    # SQLAlchemy raises a bare ValueError for an address whose port is no number.
    found: list[type[Exception]] = [OSError, ValueError]
    for module, name in _VENDOR_ERRORS:
        with suppress(ImportError):
            found.append(getattr(import_module(module), name))
    return tuple(found)


def _listing(client: MlflowClient, run_id: str, path: str) -> Iterator[tuple[str, int | None]]:
    for entry in client.list_artifacts(run_id, path):
        if entry.is_dir:
            yield from _listing(client, run_id, entry.path)
        else:
            yield entry.path, entry.file_size


def _signature(manifest: BundleManifest) -> ModelSignature:
    """Raw inputs as tensors. One input has no name there, so that MLflow takes a plain array for it."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema, TensorSpec

    single = len(manifest.inputs) == 1
    specs: list[ColSpec | TensorSpec] = [
        TensorSpec(
            np.dtype(manifest.preprocessing.raw_dtype),
            tuple(-1 if isinstance(size, str) else size for size in tensor.shape),
            None if single else tensor.name,
        )
        for tensor in manifest.inputs
    ]
    return ModelSignature(inputs=Schema(specs))


__all__ = ["CHALLENGER", "CHAMPION", "PREVIOUS", "Registry"]

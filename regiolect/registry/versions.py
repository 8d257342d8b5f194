"""One version per bundle in a registered model, however many processes register it at once.

Neither MLflow nor a database behind it refuses a second version of a bundle, so whoever has made a version looks again,
and of several the one with the lowest number stays. Exactly one does:

- A database hands out the numbers of a registered model one above the highest and refuses a number twice, deleted ones
  included. So once a version can be seen, every lower number can be seen as well, with its tags: they are written
  together.
- Whoever looks after making a version therefore sees the lowest version of that bundle, and all see the same.
- A version is removed only by somebody who sees a lower one of the same bundle. Nobody ever does for the lowest, so it
  stays; for any other its maker does.
- Aliases are set after that look, so they point at the one that stays. One that an alias was pointed at by other means
  is left alone.

Whoever crashes between making a version and looking leaves one too many, until the next registration of the bundle
looks. Runs go with their versions: every run of the bundle that can be seen is removed except that of the version that
stays. Somebody may still be uploading to such a run. Their next write fails; they look for the version that made theirs
superfluous, and take it. A run is taken up only when its upload has ended: two writers would tear the files that a
consumer reads.

All this asks of the server that a reader sees what was written before: MLflow must not read from a replica that lags.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from regiolect.bundle.manifest import MANIFEST, BundleManifest
from regiolect.bundle.requirements import requirements
from regiolect.bundle.verify import verify_bundle
from regiolect.errors import RegistryError
from regiolect.host.files import RECORD
from regiolect.integrity import digest_file
from regiolect.registry.fetching import artifacts_at, listing
from regiolect.registry.tags import description, figures, labels

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.models import ModelSignature

# The bundle in a model, the model in an MLflow run.
BUNDLE = "data/bundle"
# The module that MLflow hands the bundle to.
LOADER = "regiolect.serving"
_MODEL = "model"


@dataclass(frozen=True)
class Versions:
    """The versions of one bundle in an MLflow store.

    uri: the store's tracking URI.
    experiment: the id of the experiment that holds the runs.
    folder: the bundle, which is what `manifest` says.
    digest: the bundle's, by which versions and runs are found again.
    """

    client: MlflowClient
    uri: str
    experiment: str
    folder: Path
    manifest: BundleManifest
    digest: str

    def only_one(self) -> int:
        """The number of the bundle's version: the one there is, mended if its artifact is gone, or a new one.

        Raises:
            mlflow.exceptions.MlflowException and other vendors' errors: calling again completes what was begun.
        """
        versions = self._found()
        runs = self.client.search_runs([self.experiment], f"tags.bundle = '{self.digest}'")
        superfluous = {str(run.info.run_id) for run in runs}
        made = None
        if not versions:
            made = self._make(runs, superfluous)
            versions = self._found()
            if not versions:
                raise RegistryError(
                    expected=f"the version of {self.manifest.name} that was just made",
                    found="it is gone: somebody deleted it",
                    remedy="run again, which completes what was begun",
                )
        kept = str(versions[0].run_id)
        if kept != made:
            run = self.client.get_run(kept)
            if not self._is_complete(run):
                self._upload(run)
        self._remove(versions[1:], superfluous, spared={kept})
        return int(versions[0].version)

    def _found(self) -> Sequence[ModelVersion]:
        """Every version of the bundle, by number."""
        wanted = f"name = '{self.manifest.name}' and tags.bundle = '{self.digest}'"
        return sorted(self.client.search_model_versions(wanted), key=lambda version: int(version.version))

    def _make(self, runs: Sequence[Run], superfluous: set[str]) -> str | None:
        """Make a version of a run that an interrupted registration finished, or else of a new one.

        Args:
            superfluous: a new run is added, for who knows whether its version will be the one that stays.

        Returns:
            The run that the bundle was uploaded to; None if somebody else's version makes up for a failure here.
        """
        from mlflow.exceptions import MlflowException

        try:
            run = next(filter(self._is_complete, runs), None)
            if run is None:
                tags = labels(self.manifest, self.digest)
                run = self.client.create_run(self.experiment, run_name=self.manifest.name, tags=tags)
                superfluous.add(str(run.info.run_id))
                self._upload(run)
            self._new_version(run)
        except MlflowException:
            if not self._found():
                raise
            return None
        return str(run.info.run_id)

    def _remove(self, versions: Sequence[ModelVersion], runs: set[str], spared: set[str]) -> None:
        """Remove versions that no alias points at, their runs and `runs`, all but the `spared` ones."""
        if versions:
            pointed_at = {int(each) for each in self.client.get_registered_model(self.manifest.name).aliases.values()}
            spared = spared | {str(version.run_id) for version in versions if int(version.version) in pointed_at}
            for version in versions:
                if int(version.version) not in pointed_at:
                    with _unless_gone():
                        self.client.delete_model_version(version.name, str(version.version))
        for run in (runs | {str(version.run_id) for version in versions}) - spared:
            with _unless_gone():
                self.client.delete_run(run)

    # -------------------------------------------------------------------------------------------- making one

    def _is_complete(self, run: Run) -> bool:
        """Whether the run ended well and its artifact is still there, file by file."""
        if run.info.status != "FINISHED":
            return False
        artifacts = artifacts_at(f"{run.info.artifact_uri}/{_MODEL}", self.uri)
        kept = dict(listing(artifacts, None))
        wanted = {f"{BUNDLE}/{path}": (self.folder / path).stat().st_size for path, _ in self.manifest.files()}
        if "MLmodel" not in kept or f"{BUNDLE}/{MANIFEST}" not in kept:
            return False
        if any(kept.get(path) != size for path, size in wanted.items()):
            return False
        if (kept[f"{BUNDLE}/{MANIFEST}"] or 0) > RECORD:
            return False
        with tempfile.TemporaryDirectory() as scratch:
            return digest_file(Path(artifacts.download_artifacts(f"{BUNDLE}/{MANIFEST}", scratch))) == self.digest

    def _upload(self, run: Run) -> None:
        import mlflow.pyfunc
        from mlflow.models import Model

        with tempfile.TemporaryDirectory() as scratch:
            # What is verified is the copy that is uploaded, not a folder that may still change.
            copy = Path(scratch) / "bundle"
            shutil.copytree(self.folder, copy)
            verify_bundle(copy, self.manifest)
            mlflow.pyfunc.save_model(
                path=f"{scratch}/{_MODEL}",
                loader_module=LOADER,
                data_path=str(copy),
                mlflow_model=Model(signature=_signature(self.manifest), metadata=labels(self.manifest, self.digest)),
                pip_requirements=list(requirements(self.manifest)),
            )
            self.client.log_artifacts(run.info.run_id, f"{scratch}/{_MODEL}", _MODEL)
        finish(self.client, run, figures(self.manifest))

    def _new_version(self, run: Run) -> None:
        from mlflow.exceptions import MlflowException

        manifest = self.manifest
        try:
            self.client.create_registered_model(
                manifest.name, tags={"model": manifest.model, "region": manifest.region}, description=manifest.title
            )
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        source = f"{run.info.artifact_uri}/{_MODEL}"
        self.client.create_model_version(
            manifest.name,
            source,
            run.info.run_id,
            tags=labels(manifest, self.digest),
            description=description(manifest),
        )


def experiment_of(client: MlflowClient, model: str, artifacts: Path | None) -> str:
    """The id of a model's experiment, which is made if absent.

    Raises:
        RegistryError: somebody deleted it.
    """
    from mlflow.exceptions import MlflowException

    name = f"regiolect/{model}"
    location = None if artifacts is None else (artifacts / model).as_uri()
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        try:
            return client.create_experiment(name, artifact_location=location)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        experiment = client.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise RegistryError(
            expected=f"an active MLflow experiment {name!r}",
            found="a deleted one",
            remedy="restore it: mlflow experiments restore, or remove it for good: mlflow gc",
        )
    return str(experiment.experiment_id)


def finish(client: MlflowClient, run: Run, metrics: Mapping[str, float]) -> None:
    """End a run well, with its figures."""
    from mlflow.entities import Metric

    now = int(time.time() * 1000)
    client.log_batch(run.info.run_id, metrics=[Metric(key, value, now, 0) for key, value in metrics.items()])
    client.set_terminated(run.info.run_id)


@contextmanager
def _unless_gone() -> Iterator[None]:
    """Lets pass that somebody else removed it first."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise


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

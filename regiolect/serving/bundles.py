"""What a consumer loads: a bundle's engine behind `predict`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from regiolect import __version__
from regiolect.bundle import MANIFEST, BundleManifest, engine_folder, read_bundle, verify_bundle
from regiolect.data import preprocess
from regiolect.engines import catalog
from regiolect.engines.engine import Engine
from regiolect.errors import EngineError, InvalidBundle, InvalidSamples
from regiolect.integrity import digest_file
from regiolect.preflight import Fit, not_runnable, preflight, region_here, require_region
from regiolect.signing.bundles import require_name, verify_decisions
from regiolect.signing.keyring import Keyring
from regiolect.signing.trust import Trust


class ServedModel:
    """A loaded bundle.

    Attributes:
        manifest: what the bundle says of itself.
        target: name of the target whose engine was loaded here.
    """

    def __init__(self, manifest: BundleManifest, target: str, engine: Engine) -> None:
        self.manifest = manifest
        self.target = target
        self._engine = engine

    def predict(
        self, model_input: NDArray[Any] | Mapping[str, NDArray[Any]], params: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name for raw inputs; any number of rows that the engine's profile can be filled with.

        Args:
            model_input: raw inputs, before preprocessing, by input name; for a model with one input, the array alone
                will do. The dtype is the preprocessing's `raw_dtype`, the first dimension the batch. A dimension that
                varies has the samples' own size: where the policy pads, that is done here, after preprocessing.
            params: MLflow passes them; there are none to set.

        Raises:
            InvalidSamples: inputs are missing, unknown, or of another dtype.
            ShapeOutsideProfile: a shape is not one that the engine was built for.
        """
        return self._engine.run_many(self._prepared(model_input))

    def _prepared(self, model_input: NDArray[Any] | Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        names = [tensor.name for tensor in self.manifest.inputs]
        if isinstance(model_input, Mapping):
            given = dict(model_input)
        else:
            given = dict.fromkeys(names, model_input) if len(names) == 1 else {}
        if set(given) != set(names):
            raise InvalidSamples(
                expected=f"inputs {', '.join(sorted(names))} of {self.manifest.name}",
                found=", ".join(sorted(map(str, given))) or "one array without a name",
                remedy="pass a dict of arrays by input name",
            )
        dtype = np.dtype(self.manifest.preprocessing.raw_dtype)
        for name, raw in given.items():
            if not isinstance(raw, np.ndarray) or raw.dtype != dtype:
                raise InvalidSamples(
                    expected=f"input {name!r} of {self.manifest.name} as a {dtype} array, before preprocessing",
                    found=str(getattr(raw, "dtype", type(raw).__name__)),
                    remedy="pass the samples as they were recorded; the engine's preprocessing is applied here",
                )
        return {name: preprocess(raw, self.manifest.preprocessing) for name, raw in given.items()}


def load_bundle(folder: Path, trust: Trust | None = None) -> ServedModel:
    """Verify the bundle at `folder` and load the engine that is right for this machine.

    That is the first, in the bundle's order, that was measured on a machine like this one; else the first that runs
    here, which is warned of. Nothing of the others is read but to compare digests.

    Args:
        trust: whose signatures count; those of the trust file that the environment names when None.

    Raises:
        ForeignRegion: it is another region's than the one that REGIOLECT_REGION says this machine is in.
        IntegrityError: a file is missing, changed or unnamed; nothing was deserialized.
        UntrustedEngine: no trusted key signed that its engines were approved as they are; nothing was deserialized.
        NotRunnableHere: none of its engines runs here; the error says why, engine by engine.
    """
    trust = trust if trust is not None else Keyring.of_environment().load_trust()
    manifest = read_bundle(folder)
    require_region(manifest.model, manifest.region, region_here())
    engines = {approved.engine.request.target.name: approved.engine for approved in manifest.engines}
    report = preflight(tuple(engines.values()))
    fitting = report.to_try()
    # The engine to be loaded is hashed once, from the bytes that are then deserialized.
    later = {f"{engine_folder(fit.target)}/{file.path}" for fit in fitting[:1] for file in engines[fit.target].files}
    verify_bundle(folder, manifest, later=later)
    verify_decisions(folder, manifest, trust)
    failed = {}
    for fit in fitting:
        try:
            engine = catalog.backend(fit.backend).load_from(engines[fit.target], folder / engine_folder(fit.target))
        except EngineError as error:
            failed[fit.target] = error
        else:
            if fit.fit is Fit.UNMEASURED:
                warnings.warn(fit.warning(manifest.name), stacklevel=2)
            return ServedModel(manifest, fit.target, engine)
    raise not_runnable(manifest.name, report, failed)


def requirements(manifest: BundleManifest) -> tuple[str, ...]:
    """What a consumer installs with pip: us, and the runtime of each engine in the version that built it."""
    engines = [approved.engine for approved in manifest.engines]
    runtimes = [f"{catalog.backend(one.request.target.backend).distribution}=={one.backend_version}" for one in engines]
    return tuple(dict.fromkeys([f"regiolect=={__version__}", *runtimes]))


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry: `path` is the bundle in the downloaded artifact.

    A version that the registry's `champion` points at must have been made champion by a release, and any version must
    hold its own model's and region's engines.
    """
    folder = Path(path)
    trust = Keyring.of_environment().load_trust()
    origin = _origin(folder)
    if origin is not None:
        from regiolect.registry.consumer import require_promoted

        manifest = read_bundle(folder)
        # Known before the registry is asked for anything.
        require_region(manifest.model, manifest.region, region_here())
        require_name(manifest, *origin)
        require_promoted(*origin, bundle=digest_file(folder / MANIFEST), trust=trust)
    return load_bundle(folder, trust)


def _origin(folder: Path) -> tuple[str, int] | None:
    """The registered model and version that MLflow downloaded a bundle from, as it notes beside the model; None if the
    model was not asked for by a registered name."""
    note = folder.parents[1] / "registered_model_meta"
    if not note.is_file():
        return None
    try:
        said = yaml.safe_load(note.read_bytes())
        return str(said["model_name"]), int(said["model_version"])
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise InvalidBundle(
            expected=f"MLflow's note of name and version in {note}",
            found=f"something else ({type(error).__name__})",
            remedy="load the model by its registered name again, which writes it anew",
        ) from error

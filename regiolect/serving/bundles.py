"""What a consumer loads: a bundle's engine behind `predict`."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from regiolect.bundle.decisions import require_name, verify_decisions
from regiolect.bundle.manifest import MANIFEST, BundleManifest, engine_folder, read_bundle, selftest_path
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import (
    ApprovedEngine,
    Configuration,
    Preprocessing,
    TensorSpec,
    TunedEngine,
)
from regiolect.contracts.plain_yaml import read_yaml
from regiolect.data import preprocess, require_unmasked
from regiolect.engines import catalog
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.engine import Engine
from regiolect.engines.selftest import SelfTest, self_test
from regiolect.errors import EngineError, InvalidBundle, InvalidSamples, SelfTestFailed
from regiolect.host.cpu import UNKNOWN
from regiolect.host.files import NOTE, read_file
from regiolect.integrity import digest_file
from regiolect.precision import differs_by_arithmetic, traits
from regiolect.serving.preflight import Fit, not_runnable, passed_over, preflight, region_here, require_region
from regiolect.signing.keyring import Keyring
from regiolect.signing.trust import Trust


class ServedModel:
    """A loaded bundle.

    Attributes:
        manifest: what the bundle says of itself.
        target: name of the target whose engine was loaded here.
        tuning: what that engine was tuned to on a device like this one, at whose point it runs; None: as it comes.
        engine: the loaded engine.
        self_test: what its self-test gave; None for an engine that has none, because nothing in it depends on the
            processor's arithmetic or because it was judged before classes were stated.
    """

    def __init__(
        self,
        manifest: BundleManifest,
        target: str,
        engine: Engine,
        tuning: TunedEngine | None = None,
        self_test: SelfTest | None = None,
    ) -> None:
        self.manifest = manifest
        self.target = target
        self.tuning = tuning
        self.engine = engine
        self.self_test = self_test

    def predict(
        self, model_input: NDArray[Any] | Mapping[str, NDArray[Any]], params: Mapping[str, Any] | None = None
    ) -> dict[str, NDArray[Any]]:
        """Outputs by name for raw inputs; any number of rows that the engine's profile can be filled with.

        Args:
            model_input: raw inputs, before preprocessing, by input name; for a model with one input, the array alone
                will do. The dtype is the preprocessing's `raw_dtype`, the first dimension the batch. A dimension that
                varies has the samples' own size: where the policy pads, that is done here, after preprocessing.
            params: MLflow passes them; there are none to set.

        Returns:
            Arrays by the name of the output, one row per sample in the order of the input, as the model answers.

        Raises:
            InvalidSamples: inputs are missing, unknown, masked, or of another dtype.
            ShapeOutsideProfile: a shape is not one that the engine was built for.
            EngineError: the vendor's library failed, or its device does not answer any more (DeviceLost).
        """
        manifest = self.manifest
        raw = raw_inputs(manifest.name, manifest.inputs, manifest.preprocessing, model_input)
        inputs = {name: preprocess(raw[name], manifest.preprocessing) for name in raw}
        return self.engine.run_many(inputs, None if self.tuning is None else self.tuning.point.batch)


def raw_inputs(
    model: str,
    inputs: Sequence[TensorSpec],
    preprocessing: Preprocessing,
    model_input: NDArray[Any] | Mapping[str, NDArray[Any]],
) -> dict[str, NDArray[Any]]:
    """What `predict` is given, by input name, once names and dtypes are found right.

    Raises:
        InvalidSamples: inputs are missing, unknown, masked, or of another dtype.
    """
    names = [tensor.name for tensor in inputs]
    if isinstance(model_input, Mapping):
        given = dict(model_input)
    else:
        given = dict.fromkeys(names, model_input) if len(names) == 1 else {}
    if set(given) != set(names):
        raise InvalidSamples(
            expected=f"inputs {', '.join(sorted(names))} of {model}",
            found=", ".join(sorted(map(str, given))) or "one array without a name",
            remedy="pass a dict of arrays by input name",
        )
    dtype = np.dtype(preprocessing.raw_dtype)
    for name, raw in given.items():
        if not isinstance(raw, np.ndarray) or raw.dtype != dtype:
            raise InvalidSamples(
                expected=f"input {name!r} of {model} as a {dtype} array, before preprocessing",
                found=str(getattr(raw, "dtype", type(raw).__name__)),
                remedy="pass the samples as they were recorded; the engine's preprocessing is applied here",
            )
        require_unmasked(name, raw)
    return given


def load_bundle(folder: Path, trust: Trust | None = None) -> ServedModel:
    """Verify the bundle at `folder` and load the engine that is right for this machine.

    That is the first, in the bundle's order, that was measured on a machine like this one; else the first that was
    judged in this machine's class of arithmetic, or belongs to none; else the first that runs here. What was not
    measured on a machine like this one is warned of. Nothing of the others is read but to compare digests. An engine
    that was tuned runs at the point at which it was judged; on a device of another type it runs as it comes, which is
    warned of. An INT8 engine is asked what its judge asked; one that answers otherwise is passed over like one that
    does not load.

        >>> engine = load_bundle(Path("bundle"))
        >>> engine.target
        'cpu'
        >>> images = np.zeros((5, 1, 4, 4), np.uint8)  # raw, as they were recorded
        >>> engine.predict(images)["logits"].shape
        (5, 3)

    Args:
        folder: the bundle, with its `manifest.json`; read only.
        trust: whose signatures count; those of the trust file that the environment names when None.

    Returns:
        The engine behind `predict`, with the manifest, the target that it is for, and how near its self-test was.

    Raises:
        NoTrust: no trust file is found, or it cannot be read.
        InvalidBundle: the manifest is unfinished, contradicts itself, or is of a newer format.
        ForeignRegion: it is another region's than the one that REGIOLECT_REGION says this machine is in.
        IntegrityError: a file is missing, changed or unnamed; nothing was deserialized.
        UntrustedEngine: no trusted key signed that its engines were approved as they are; nothing was deserialized.
        NotRunnableHere: none of its engines runs here; the error says why, engine by engine.
    """
    trust = trust if trust is not None else Keyring.of_environment().load_trust()
    manifest = read_bundle(folder)
    require_region(manifest.model, manifest.region, region_here())
    approved = {each.engine.request.slot: each for each in manifest.engines}
    engines = {slot: each.engine for slot, each in approved.items()}
    report = preflight(tuple(engines.values()))
    fitting = report.to_try()
    # The engine to be loaded is hashed once, from the bytes that are then deserialized.
    later = {f"{engine_folder(fit.slot)}/{file.path}" for fit in fitting[:1] for file in engines[fit.slot].files}
    verify_bundle(folder, manifest, later=later)
    verify_decisions(folder, manifest, trust)
    failed = {}
    for fit in fitting:
        backend = catalog.backend(fit.backend)
        try:
            tuning = tuned_here(approved[fit.slot], backend.device())
            configuration = AS_IT_COMES if tuning is None else tuning.point.configuration
            engine, tested = open_engine(folder, approved[fit.slot], configuration)
        except EngineError as error:
            failed[fit.slot] = error
        else:
            if fit.fit is Fit.UNMEASURED:
                warnings.warn(fit.warning(manifest.name), stacklevel=2)
            lost = passed_over(manifest.name, report, failed, fit)
            if lost is not None:
                warnings.warn(lost, stacklevel=2)
            return ServedModel(manifest, fit.target, engine, tuning, tested)
    raise not_runnable(manifest.name, report, failed)


def open_engine(folder: Path, approved: ApprovedEngine, configuration: Configuration) -> tuple[Engine, SelfTest | None]:
    """Load an engine of a verified bundle and, where it has a self-test, have it pass.

    Raises:
        SelfTestFailed: it answers otherwise than where it was judged; or is an INT8 engine of a stated class that was
            signed without a self-test; or one of a wider precision that was seen to run INT8 kernels, which neither
            class nor self-test binds.
        EngineError, IntegrityError: as `Backend.load_from`, and of the probes.
    """
    request, probes = approved.engine.request, approved.evaluation.selftest
    again = f"regiolect run MODEL --regions {request.region}"
    if probes is None and traits(request.precision).by_arithmetic and request.arithmetic is not None:
        raise SelfTestFailed(
            expected=f"a self-test of the {request.precision} engine for {request.target.name}, judged in class "
            f"{request.arithmetic}",
            found="none in its evaluation",
            remedy=f"release the region again, which keeps one: {again}",
        )
    backend, executed = catalog.backend(request.target.backend), approved.attestation.executed or {}
    bound = [kind for kind in executed if differs_by_arithmetic(kind)]
    if bound and backend.classed and not traits(request.precision).by_arithmetic:
        raise SelfTestFailed(
            expected=f"no {' or '.join(bound)} kernels in the {request.precision} engine for {request.target.name}, "
            "which is loaded in any class of arithmetic",
            found=f"{approved.attestation.summary()} where it was judged",
            remedy=f"release the region again, as {' or '.join(bound)} or from a model without Q/DQ nodes: {again}",
        )
    engine = backend.load_from(approved.engine, folder / engine_folder(request.slot), configuration)
    return engine, None if probes is None else self_test(engine, folder / selftest_path(request.slot), probes)


def tuned_here(approved: ApprovedEngine, device: Mapping[str, str]) -> TunedEngine | None:
    """What an engine was tuned to, if that was on such a device; None otherwise, with a warning if it was another one.

    Args:
        device: as the engine's backend tells it.
    """
    tuning = approved.tuning
    if tuning is None or tuning.device == dict(device):
        return tuning
    differing = sorted(name for name in {*tuning.device, *device} if tuning.device.get(name) != device.get(name))
    differs = [
        f"{name} {tuning.device.get(name, UNKNOWN)} there, {device.get(name, UNKNOWN)} here" for name in differing
    ]
    request = approved.engine.request
    warnings.warn(
        f"the engine of {request.model}-{request.region} was tuned on another device ({'; '.join(differs)}) and runs "
        "as it comes: tune it on a device like this one",
        stacklevel=3,
    )
    return None


def _load_pyfunc(path: str) -> ServedModel:
    """MLflow's entry: `path` is the bundle in the downloaded artifact.

    A version that the registry's `champion` points at must have been made champion by a release, and any version must
    hold its own model's and region's engines.
    """
    folder = Path(path)
    trust = Keyring.of_environment().load_trust()
    require_origin(folder, trust)
    return load_bundle(folder, trust)


def require_origin(folder: Path, trust: Trust) -> None:
    """Raises unless a bundle that MLflow downloaded by its registered name has that name, and a champion its promotion.

    A bundle that came any other way is let through.
    """
    origin = _origin(folder)
    if origin is not None:
        from regiolect.registry.consumer import require_promoted

        manifest = read_bundle(folder)
        # Known before the registry is asked for anything.
        require_region(manifest.model, manifest.region, region_here())
        require_name(manifest, *origin)
        require_promoted(*origin, bundle=digest_file(folder / MANIFEST), trust=trust)


def _origin(folder: Path) -> tuple[str, int] | None:
    """The registered model and version that MLflow downloaded a bundle from, as it notes beside the model; None if the
    model was not asked for by a registered name."""
    # Two levels above, as MLflow downloads it; whoever moved a bundle to the top of a disk has no such place.
    above = folder.absolute().parents[1:2]
    note = Path(*above) / "registered_model_meta"
    if not above or not note.exists():
        return None
    try:
        registered = read_yaml(read_file(note, NOTE))
        return str(registered["model_name"]), int(registered["model_version"])
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InvalidBundle(
            expected=f"MLflow's note of name and version in {note}",
            found=f"something else ({type(error).__name__})",
            remedy="load the model by its registered name again, which writes it anew",
        ) from error

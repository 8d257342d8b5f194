"""The bundle: what a region's release hands to consumers. Data only, no code, no pickle.

    manifest.json                   written last; a BundleManifest as canonical JSON
    engines/<slot>/<file>           pristine engine files
    results/<slot>.csv              per-sample scores, from which anybody can recompute the gate's decision
    selftest/<slot>.npz             what an INT8 engine is asked when it is loaded, and what it must answer
    attestations/<slot>.json        what graph and engine say of their precision, layer by layer
    policy.json                     what the region demands, as canonical JSON
    calibration/<slot>.json         the sealed ranges that an engine's graph was made with, where it needed any
    tuning/<slot>.json              every measurement behind an engine's operating points, where it was tuned
    decisions/<slot>.json           the gate's decision on an engine, signed (regiolect.signing.decisions)

An engine's slot is its target; where it was built for one class of arithmetic, target and class: `cpu-x86--vnni`. The
digest of a bundle is the digest of its manifest, which names the digest of every other file. Bundles of format 1 have
neither policy, calibration nor signed decisions: they can be read, and nothing of them is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from regiolect.contracts import (
    ApprovedEngine,
    Blob,
    Contract,
    Digest,
    NamedBlob,
    Preprocessing,
    RegionId,
    TensorSpec,
)
from regiolect.errors import InvalidBundle
from regiolect.host.files import RECORD, read_file
from regiolect.integrity import digest_of

MANIFEST = "manifest.json"
POLICY = "policy.json"
# What a Python or system loader would execute; an engine that a bundle carries is only ever read.
_CODE = frozenset({".py", ".pyc", ".pyd", ".pkl", ".pickle", ".so", ".dll", ".dylib", ".sh", ".exe"})


class BundleManifest(Contract):
    """All that a consumer needs to know of a bundle, format 2.

    source: digest of what defines the model.
    policy: digest of the region's policy.
    engines: in order of preference; one a target and class of arithmetic.
    attached: policy, calibration tables and signed decisions; nothing in format 1, which had none of them.
    """

    format: Literal[1, 2] = 2
    model: str
    region: RegionId
    title: str
    source: Digest
    policy: Digest
    preprocessing: Preprocessing
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[str, ...], Field(min_length=1)]
    engines: Annotated[tuple[ApprovedEngine, ...], Field(min_length=1)]
    attached: tuple[NamedBlob, ...] = ()

    @model_validator(mode="after")
    def _every_engine_belongs_here(self) -> Self:
        own = (self.model, self.region, self.policy, self.inputs, self.outputs)
        for approved in self.engines:
            request = approved.engine.request
            if (request.model, request.region, request.policy, request.inputs, request.outputs) != own:
                raise ValueError(f"engine {request.target.name!r} belongs to another model, region or policy")
        slots = [approved.engine.request.slot for approved in self.engines]
        if len(set(slots)) != len(slots):
            raise ValueError(f"one engine a target and class, found {slots}")
        return self

    @model_validator(mode="after")
    def _all_is_attached(self) -> Self:
        wanted: dict[str, str | None] = {}
        if self.format == 2:
            wanted[POLICY] = self.policy
            for approved in self.engines:
                slot = approved.engine.request.slot
                wanted[decision_path(slot)] = None
                if approved.engine.calibration is not None:
                    wanted[calibration_path(slot)] = approved.engine.calibration
        attached = {file.path: file.blob.digest for file in self.attached}
        if sorted(attached) != sorted(wanted):
            raise ValueError(f"attached are {sorted(attached)}, where {sorted(wanted)} belong to these engines")
        for path, digest in wanted.items():
            if digest not in (None, attached[path]):
                raise ValueError(f"{path} is not the one that the engines name")
        return self

    @model_validator(mode="after")
    def _every_path_stays_inside(self) -> Self:
        paths = [path for path, _ in self.files()]
        for path in paths:
            pure = PurePosixPath(path)
            if pure.is_absolute() or str(pure) != path or ".." in pure.parts or "\\" in path or "\0" in path:
                raise ValueError(f"path {path!r} leaves the bundle or is not in its plain form")
            if pure.suffix.lower() in _CODE:
                raise ValueError(f"{path!r} is code; a bundle carries data only")
        if len(set(paths)) != len(paths):
            raise ValueError("two files have the same path")
        return self

    @property
    def name(self) -> str:
        """The registry's name: `<model>-<region>`."""
        return f"{self.model}-{self.region}"

    def files(self) -> Iterator[tuple[str, Blob]]:
        """Every file of the bundle but the manifest: its path there and its content."""
        for approved in self.engines:
            slot = approved.engine.request.slot
            for file in approved.engine.files:
                yield f"{engine_folder(slot)}/{file.path}", file.blob
            yield results_path(slot), approved.evaluation.results
            if approved.evaluation.selftest is not None:
                yield selftest_path(slot), approved.evaluation.selftest
            if approved.attestation.layers is not None:
                yield attestation_path(slot), approved.attestation.layers
            if approved.tuning is not None:
                yield tuning_path(slot), approved.tuning.journal
        for file in self.attached:
            yield file.path, file.blob


def engine_folder(slot: str) -> str:
    """Where an engine's files lie in a bundle."""
    return f"engines/{slot}"


def attestation_path(slot: str) -> str:
    """Where the layers behind an engine's attestation lie in a bundle; older bundles have none."""
    return f"attestations/{slot}.json"


def tuning_path(slot: str) -> str:
    """Where the journal of an engine's tuning lies in a bundle, if it was tuned."""
    return f"tuning/{slot}.json"


def decision_path(slot: str) -> str:
    """Where the signed decision on an engine lies in a bundle."""
    return f"decisions/{slot}.json"


def calibration_path(slot: str) -> str:
    """Where the calibration table of an engine lies in a bundle, if it has one."""
    return f"calibration/{slot}.json"


def results_path(slot: str) -> str:
    """Where the per-sample results behind an engine's decision lie in a bundle."""
    return f"results/{slot}.csv"


def selftest_path(slot: str) -> str:
    """Where the probes of an INT8 engine lie in a bundle; older bundles have none."""
    return f"selftest/{slot}.npz"


def bundle_digest(manifest: BundleManifest) -> str:
    """The digest of a freshly written bundle."""
    return digest_of(manifest)


def read_bundle(folder: Path) -> BundleManifest:
    """The manifest of the bundle at `folder`. Its files are not looked at: `verify_bundle` does.

    Raises:
        InvalidBundle: no bundle, an unknown format, or a manifest that contradicts itself.
    """
    path = folder / MANIFEST
    try:
        return BundleManifest.model_validate_json(read_file(path, RECORD))
    except OSError as error:
        raise InvalidBundle(
            expected=f"a bundle with {MANIFEST} at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="check the path; a bundle without a manifest was never finished: run the release again",
        ) from error
    except ValidationError as error:
        raise InvalidBundle(
            expected=f"a manifest of bundle format 1 or 2 at {path}",
            found=first_mistake(error),
            remedy="install the regiolect version that wrote the bundle, or fetch the bundle again",
        ) from error


def first_mistake(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])

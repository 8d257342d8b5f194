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

import shutil
import tempfile
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from regiolect.contracts import (
    ApprovedEngine,
    Blob,
    Contract,
    Digest,
    ExportedModel,
    NamedBlob,
    Preprocessing,
    RegionId,
    TensorSpec,
)
from regiolect.errors import IntegrityError, InvalidBundle, StorageError, UnusableFile
from regiolect.files import RECORD, read_file
from regiolect.integrity import canonical_json, digest_bytes, digest_of, verify_file, write_atomic
from regiolect.signing.decisions import decision_statement
from regiolect.signing.envelope import Signing
from regiolect.storage import Store

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


def write_bundle(
    folder: Path,
    exported: ExportedModel,
    region: str,
    title: str,
    policy: bytes,
    engines: Sequence[ApprovedEngine],
    store: Store,
    signing: Signing,
) -> BundleManifest:
    """Sign each engine's decision and write a bundle to `folder`, whole or not at all.

    Equal arguments give equal bytes, since what was signed before is not signed again. An older bundle at `folder` is
    replaced. Store URIs do not travel: a file's URI becomes its path in the bundle, and content that stays behind is
    named by its digest.

    Args:
        folder: where the bundle will be; absent, empty, or an older bundle.
        exported: the model that every engine was built from.
        region: the region's short name.
        title: the region's name for people.
        policy: the region's, as `RegionPolicy.canonical` writes it.
        engines: approved engines in order of preference, one a target and class of arithmetic.
        store: where the engines' files, results and calibration tables are kept, and what was signed before.
        signing: the key to sign with.

    Raises:
        InvalidBundle: the engines do not belong together, or `folder` holds something else.
        IntegrityError: content was changed in the store.
        StorageError: content is missing, or the folder cannot be written.
    """
    try:
        # What does not belong together is found before anything is signed.
        unsigned = BundleManifest(
            format=1,
            model=exported.name,
            region=region,
            title=title,
            source=exported.source,
            policy=digest_bytes(policy),
            preprocessing=exported.preprocessing,
            inputs=exported.inputs,
            outputs=exported.outputs,
            engines=tuple(_without_store(approved) for approved in engines),
        )
        attached = _attached(unsigned, policy, store, signing)
        files = tuple(
            NamedBlob(path=path, blob=Blob(uri=path, digest=digest_bytes(data), size=len(data)))
            for path, data in attached.items()
        )
        manifest = as_read(BundleManifest(**{**dict(unsigned), "format": 2, "attached": files}))
    except ValidationError as error:
        raise InvalidBundle(
            expected=f"approved engines of {exported.name!r} in {region!r}, under one policy, one a target and class",
            found=_first(error),
            remedy="bundle the engines of one run of one region",
        ) from error
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MANIFEST).is_file():
        raise InvalidBundle(
            expected=f"{folder} absent, empty or an older bundle",
            found="other files",
            remedy="choose another folder; nothing was written",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / "bundle"
            for path, blob in manifest.files():
                target = made / path
                target.parent.mkdir(parents=True, exist_ok=True)
                if path in attached:
                    target.write_bytes(attached[path])
                else:
                    shutil.copyfile(store.path_of(blob), target)
            write_atomic(made / MANIFEST, canonical_json(manifest))
            if folder.is_dir():
                # Moved aside first: a crash here leaves no bundle rather than a mixture of two.
                folder.rename(Path(temporary) / "replaced")
            made.rename(folder)
    except OSError as error:
        raise StorageError(
            expected=f"to write a bundle to {folder}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy=f"free space or mend the permissions of {folder.parent}, then run again",
        ) from error
    return manifest


def as_read(manifest: BundleManifest) -> BundleManifest:
    """A manifest as its reader finds it: with everything in it that its writer knows, and nothing filled in."""
    return BundleManifest.model_validate_json(canonical_json(manifest))


def _attached(manifest: BundleManifest, policy: bytes, store: Store, signing: Signing) -> dict[str, bytes]:
    """Content by path: the policy, and of each engine the calibration table and the signed decision."""
    found, manifest = {POLICY: policy}, as_read(manifest)
    for approved in manifest.engines:
        slot, calibration = approved.engine.request.slot, approved.engine.calibration
        what = decision_statement(approved, manifest.source, manifest.preprocessing, engine_folder(slot))
        found[decision_path(slot)] = signing.sign_once(what, store)
        if calibration is not None:
            # Stores find content by its digest alone.
            table = store.path_of(Blob(uri=calibration, digest=calibration, size=0))
            found[calibration_path(slot)] = read_file(table, RECORD)
    return found


def _without_store(approved: ApprovedEngine) -> ApprovedEngine:
    artifact, slot = approved.engine, approved.engine.request.slot
    files = tuple(
        file.model_copy(update={"blob": _at(file.blob, f"{engine_folder(slot)}/{file.path}")})
        for file in artifact.files
    )
    request = artifact.request.model_copy(update={"graph": _at(artifact.request.graph, artifact.request.graph.digest)})
    evaluation = approved.evaluation
    moved = {"results": _at(evaluation.results, results_path(slot))}
    if evaluation.selftest is not None:
        moved["selftest"] = _at(evaluation.selftest, selftest_path(slot))
    layers = approved.attestation.layers
    layers = layers and _at(layers, attestation_path(slot))
    tuning = approved.tuning
    if tuning is not None:
        tuning = tuning.model_copy(update={"journal": _at(tuning.journal, tuning_path(slot))})
    return approved.model_copy(
        update={
            "tuning": tuning,
            "engine": artifact.model_copy(update={"files": files, "request": request}),
            "attestation": approved.attestation.model_copy(update={"layers": layers}),
            "evaluation": evaluation.model_copy(update=moved),
        }
    )


def _at(blob: Blob, uri: str) -> Blob:
    return blob.model_copy(update={"uri": uri})


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
            found=_first(error),
            remedy="install the regiolect version that wrote the bundle, or fetch the bundle again",
        ) from error


def verify_bundle(folder: Path, manifest: BundleManifest, later: Collection[str] = ()) -> None:
    """Raises IntegrityError unless `folder` holds exactly the files that `manifest` names, each with its digest.

    Links are refused like unnamed files: what they lead to can change after the check.

    Args:
        later: paths of files whose digests somebody else compares, with the bytes that are then used.
    """
    try:
        _verify(folder, manifest, later)
    except UnusableFile as error:
        raise IntegrityError(
            error.expected, error.found, "do not use this bundle; fetch or register it again"
        ) from error
    except OSError as error:
        raise IntegrityError(
            expected=f"to read every file of the bundle at {folder}",
            found=f"{error.strerror or error} ({type(error).__name__}): {error.filename!r}",
            remedy="mend its permissions, or fetch or register it again",
        ) from error


def _verify(folder: Path, manifest: BundleManifest, later: Collection[str]) -> None:
    named = dict(manifest.files())
    present: set[str] = set()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink() or (not path.is_dir() and relative not in {MANIFEST, *named}):
            raise IntegrityError(
                expected=f"only the {len(named)} files that {folder / MANIFEST} names",
                # Its name is somebody else's, and need not even be text.
                found=f"{'a link' if path.is_symlink() else 'another file'}: {relative!r}",
                remedy="do not use this bundle; fetch or register it again",
            )
        present.add(relative)
    for relative, blob in named.items():
        if relative not in present:
            raise IntegrityError(
                expected=f"{relative} in the bundle at {folder}",
                found="no such file",
                remedy="do not use this bundle; fetch or register it again",
            )
        if relative not in later:
            verify_file(folder / relative, blob.digest, blob.size)


def _first(error: ValidationError) -> str:
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}" if where else str(first["msg"])

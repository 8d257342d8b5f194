"""Writing a bundle: files first, manifest last."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from regiolect.bundle.manifest import (
    MANIFEST,
    POLICY,
    BundleManifest,
    attestation_path,
    calibration_path,
    decision_path,
    engine_folder,
    first_mistake,
    results_path,
    selftest_path,
    tuning_path,
)
from regiolect.contracts import (
    ApprovedEngine,
    Blob,
    ExportedModel,
    NamedBlob,
)
from regiolect.errors import InvalidBundle, StorageError
from regiolect.host.files import RECORD, read_file
from regiolect.integrity import canonical_json, digest_bytes, write_atomic
from regiolect.signing.decisions import decision_statement
from regiolect.signing.envelope import Signing
from regiolect.storage import Store


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
            found=first_mistake(error),
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
    contents, manifest = {POLICY: policy}, as_read(manifest)
    for approved in manifest.engines:
        slot, calibration = approved.engine.request.slot, approved.engine.calibration
        what = decision_statement(approved, manifest.source, manifest.preprocessing, engine_folder(slot))
        contents[decision_path(slot)] = signing.cached_signature(what, store)
        if calibration is not None:
            # Stores find content by its digest alone.
            table = store.path_of(Blob(uri=calibration, digest=calibration, size=0))
            contents[calibration_path(slot)] = read_file(table, RECORD)
    return contents


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

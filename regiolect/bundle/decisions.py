"""The signed decisions of a bundle, verified before anything of it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regiolect.bundle.manifest import BundleManifest, decision_path, engine_folder
from regiolect.contracts import ApprovedEngine
from regiolect.errors import InvalidBundle, StatementMismatch, UnsignedEngine
from regiolect.host.files import NOTE, read_file
from regiolect.signing.decisions import decision_statement
from regiolect.signing.envelope import Opened, open_envelope, require_same
from regiolect.signing.trust import Trust


def verify_decisions(folder: Path, manifest: BundleManifest, trust: Trust) -> Mapping[str, Opened]:
    """Require that a trusted key signed, of every engine, that the gate approved exactly what `manifest` says of it.

    Digests of files are taken from the manifest: `verify_bundle` holds the files against those.

    Returns:
        Who signed and when, by slot.

    Raises:
        UntrustedEngine: of an engine, nobody did; its subclass says why.
        InvalidBundle: a decision's file cannot be read.
    """
    return {
        approved.engine.request.slot: verify_decision(folder, manifest, approved, trust)
        for approved in manifest.engines
    }


def require_name(manifest: BundleManifest, name: str, version: int) -> None:
    """Raises StatementMismatch unless a bundle lies under the registered name of its own model and region.

    Each of its engines may be approved, and still be another region's than the one whose name consumers ask for.
    """
    if manifest.name != name:
        raise StatementMismatch(
            expected=f"a bundle of {name} in models:/{name}/{version}",
            found=f"one of {manifest.name}, of region {manifest.region!r}",
            remedy="do not use this version: delete it, and release the region again",
        )


def verify_decision(folder: Path, manifest: BundleManifest, approved: ApprovedEngine, trust: Trust) -> Opened:
    """As `verify_decisions`, for one engine of the manifest."""
    slot = approved.engine.request.slot
    what = f"the engine of {manifest.name} for {slot}"
    if manifest.format == 1:
        raise UnsignedEngine(
            expected=f"a signed decision on {what}",
            found="a bundle of format 1, which has none",
            remedy="release the region again, which signs it",
        )
    path = folder / decision_path(slot)
    try:
        data = read_file(path, NOTE)
    except OSError as error:
        raise InvalidBundle(
            expected=f"to read {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy="do not use this bundle; fetch or register it again",
        ) from error
    opened = open_envelope(data, trust, what)
    require_same(
        decision_statement(approved, manifest.source, manifest.preprocessing, engine_folder(slot)), opened, what
    )
    return opened

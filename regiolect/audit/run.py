"""Every version of a registry, several at a time: what each one is, and everything that speaks against it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock

from regiolect.audit.evidence import (
    calibration_of,
    judged_class,
    own_policy,
    require_attested,
    require_class,
    require_tuned,
    require_unseen,
    results_of,
)
from regiolect.audit.promised import FindStore, promised, require_kept, require_recorded
from regiolect.audit.today import require_allowed, require_recent
from regiolect.bundle.decisions import require_name, verify_decision
from regiolect.bundle.manifest import MANIFEST, BundleManifest, read_bundle
from regiolect.bundle.verify import verify_bundle
from regiolect.contracts import ApprovedEngine, AuditedEngine, AuditedVersion, AuditResult, Failure, failure_of
from regiolect.errors import RegiolectError, RegistryError
from regiolect.errors.redaction import redacted_address
from regiolect.gate.again import require_reproduced
from regiolect.host.processors import processors
from regiolect.integrity import digest_file
from regiolect.policy import PolicyBook
from regiolect.registry import LiveVersion, Registry, require_obedient, require_signed
from regiolect.signing.trust import Trust
from regiolect.tune import words

# While one is judged, others are hashed, or waited for where the registry is far away.
_SIDE_BY_SIDE = 2 * processors()
Progress = Callable[[AuditedVersion], None]


def audit(
    registry: Registry,
    book: PolicyBook,
    names: Collection[str] = (),
    *,
    stores: FindStore | None = None,
    everything: bool = False,
    now: datetime | None = None,
    progress: Progress | None = None,
) -> AuditResult:
    """Hold what consumers can load against its own evidence and today's policies and keys. Changes nothing.

    Of every version: its bytes, its promotion if it is champion, each engine's signed decision, that decision made
    again from the per-sample results, and what today's policy says of the same evidence and of the calibration's age.

    Args:
        registry: where versions are registered; its keyring tells whose signatures count.
        book: today's policies.
        names: registered models to look at; default: all.
        stores: where regions keep the promotions that tell which models there must be; without, that is not asked.
        everything: also versions that no alias points at.
        now: the moment that ages are counted from; by default the clock's.
        progress: called after each version, in the order of the result.

    Raises:
        RegistryError: the registry cannot be read, or neither it nor a store knows of any model.
    """
    clock, at = time.perf_counter(), now or datetime.now(UTC)
    of_all, versions, trust = _Findings(), [], Trust()
    with of_all.kept():
        trust = registry.keyring.load_trust()
    examiner = _Examiner(registry, trust, book, at)
    kept = promised(stores or _none, book.regions(), trust, of_all.kept)
    promises = {name: each for name, each in kept.newest.items() if not names or name in names}
    live = registry.live(names, book.regions(), everything=everything, promised=promises.keys())
    if not live and not promises and not of_all.found:
        raise RegistryError(
            expected="a registry with versions to audit",
            found=f"none at {redacted_address(registry.tracking_uri)}, and no record of any in the regions' stores",
            remedy="correct MLFLOW_TRACKING_URI, or release a region first",
        )
    require_kept(promises, live, of_all.kept)
    with ThreadPoolExecutor(_SIDE_BY_SIDE) as pool:
        for version, future in [(version, pool.submit(examiner.examine, version)) for version in live]:
            # Whatever nobody thought of speaks against that version, and keeps no other from being looked at.
            error = future.exception()
            examined = future.result() if error is None else _unexamined(version, error)
            versions.append(examined)
            if progress is not None:
                progress(examined)
    named = ((version, examined.region) for version, examined in zip(live, versions, strict=True))
    require_recorded(kept, named, trust, of_all.kept)
    return AuditResult(
        at=at,
        registry=redacted_address(registry.tracking_uri),
        seconds=time.perf_counter() - clock,
        versions=tuple(versions),
        findings=tuple(of_all.found),
    )


def _none(region: str) -> None:
    """The store of a region where none is to be asked."""


def _unexamined(version: LiveVersion, error: BaseException) -> AuditedVersion:
    return AuditedVersion(
        name=version.name, version=version.version, aliases=version.aliases, findings=(failure_of(error),)
    )


@dataclass
class _Findings:
    """Errors of one thing, as data: the first one does not hide the others."""

    found: list[Failure] = field(default_factory=list)

    @contextmanager
    def kept(self) -> Iterator[None]:
        try:
            yield
        except RegiolectError as error:
            self.found.append(failure_of(error))


@dataclass(frozen=True)
class _Examiner:
    registry: Registry
    trust: Trust
    book: PolicyBook
    now: datetime
    # Hashing leaves Python's own lock alone and judging does not: two who judge would only take turns, slowly.
    judging: Lock = field(default_factory=Lock)

    def examine(self, version: LiveVersion) -> AuditedVersion:
        """One version; what cannot even be read is a finding as well."""
        of_all, engines = _Findings(), tuple[AuditedEngine, ...]()
        manifest, promotion, size = None, None, 0
        with of_all.kept(), self.registry.opened(version) as stored:
            folder = stored.bundle
            with of_all.kept():
                manifest = read_bundle(folder)
            with of_all.kept():
                if manifest is not None:
                    promotion = version.require_promoted(digest_file(folder / MANIFEST), self.trust)
            with of_all.kept():
                require_obedient(stored.model, manifest)
                if promotion is not None and promotion.beside:
                    require_signed(stored.model, promotion.beside)
            if manifest is not None:
                with of_all.kept():
                    require_name(manifest, version.name, version.version)
                with of_all.kept():
                    verify_bundle(folder, manifest)
                    # What was changed proves nothing: its content is looked at only if it is what the manifest names.
                    size = sum(blob.size for _, blob in manifest.files())
                    with self.judging:
                        engines = tuple(self._engine(folder, manifest, approved) for approved in manifest.engines)
        return AuditedVersion(
            name=version.name,
            version=version.version,
            aliases=version.aliases,
            model=manifest.model if manifest else None,
            region=manifest.region if manifest else None,
            promoted_by=f"{promotion.by}: {promotion.because}" if promotion and promotion.by else None,
            bytes=size,
            engines=engines,
            findings=tuple(of_all.found),
        )

    def _engine(self, folder: Path, manifest: BundleManifest, approved: ApprovedEngine) -> AuditedEngine:
        kept, opened = _Findings(), None
        with kept.kept():
            opened = verify_decision(folder, manifest, approved, self.trust)
        if manifest.format > 1:
            with kept.kept():
                self._judge(folder, manifest, approved, kept)
        return AuditedEngine(
            target=approved.engine.request.target.name,
            arithmetic=judged_class(approved),
            told_by_flags=judged_class(approved) is not approved.engine.request.arithmetic,
            precision=approved.engine.request.precision.value,
            executed=approved.attestation.summary(),
            tuned=words.line(approved.tuning) if approved.tuning is not None else None,
            signed_by=opened.key.who() if opened else None,
            signed=opened.signed if opened else None,
            findings=tuple(kept.found),
        )

    def _judge(self, folder: Path, manifest: BundleManifest, approved: ApprovedEngine, kept: _Findings) -> None:
        with kept.kept():
            require_class(approved)
        with kept.kept():
            require_attested(folder, approved)
        with kept.kept():
            require_tuned(folder, approved)
        then, rows = own_policy(folder, manifest), results_of(folder, approved)
        with kept.kept():
            require_reproduced(approved, then, rows)
        table = None
        with kept.kept():
            table = calibration_of(folder, approved)
        if table is not None:
            with kept.kept():
                require_unseen(rows, table)
        now = self.book.load(manifest.region)
        if now.digest() != manifest.policy:
            with kept.kept():
                require_allowed(approved, now, rows)
        if table is not None:
            with kept.kept():
                require_recent(table, now, self.now)

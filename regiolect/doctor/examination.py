"""Every check, in the order in which they are made. Nothing stops at the first mistake."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec

from regiolect import __version__
from regiolect.doctor import installation, orchestration, places, project, runtimes, signing
from regiolect.doctor.finding import Check, Diagnosis, Finding, told
from regiolect.engines import catalog
from regiolect.errors import PolicyError, RegiolectError
from regiolect.errors.redaction import redacted
from regiolect.identity.toolchain import own_code
from regiolect.policy import PolicyBook, RegionPolicy
from regiolect.settings import Settings, load_settings
from regiolect.storage.opening import PLACEHOLDER


def examine(regions: Sequence[str] | None = None) -> Iterator[Finding]:
    """Look at everything that the environment names, and say of each thing whether it is as it should be.

    Args:
        regions: look at the stores of these only, and only read the shared one: for a worker whose credentials reach no
            more than that.

    Every check ends within its time. No secret of the environment is part of a finding.
    """
    for each in _examine(regions):
        finding = each.model_copy(update={"remedy": installation.harmless(each.remedy)}) if each.remedy else each
        texts = {field: redacted(getattr(finding, field)) for field in ("name", "expected", "found", "remedy")}
        yield finding.model_copy(update=texts)


def diagnosis(findings: Iterable[Finding]) -> Diagnosis:
    """Findings as a document, which tells whose they are."""
    return Diagnosis(version=__version__, code=own_code(), findings=tuple(findings))


def _examine(regions: Sequence[str] | None) -> Iterator[Finding]:
    yield from Check("code", installation.code).findings()
    try:
        settings = load_settings()
    except RegiolectError as error:
        # Without them nobody knows where anything is.
        yield told("settings", error)
        yield from Check("packages", installation.packages).findings()
        return
    yield from Check("settings", project.settings_file).findings()
    on_s3 = places.location(settings).startswith("s3://")
    needed = installation.NEEDED | ({"s3"} if on_s3 else set())
    book: PolicyBook | None = None
    usable: tuple[RegionPolicy, ...] = ()
    without_policies: PolicyError | None = None
    try:
        book = PolicyBook(settings.policies)
        usable = project.usable_policies(book)
    except PolicyError as error:
        without_policies = error
    asked = {target.backend for policy in usable for target in policy.targets}
    yield from Check("packages", partial(installation.packages, needed, asked)).findings()
    yield from Check(runtimes.NAME, partial(runtimes.beside, asked)).findings()
    yield from Check("home", partial(project.home, settings)).findings()
    yield from Check("signing key", partial(signing.keys, settings)).findings()
    if without_policies is not None:
        yield told("policies", without_policies)
    if book is not None:
        yield from Check("policies", partial(project.policies, book)).findings()
        yield from Check("regions", partial(project.named_regions, book, regions or ())).findings()
    yield from _backends(settings, usable)
    yield from _models(settings, usable)
    present = book.regions() if book is not None else ()
    looked_at = [region for region in regions or present if region in present]
    yield from _stores(settings, looked_at, read_only=bool(regions))
    yield from Check("registry", partial(places.registry, settings), 30).findings()
    yield from Check("on pools", partial(places.shared_by_machines, settings)).findings()
    yield from _prefect(settings, book if book is not None and len(usable) == len(present) else None)
    servers = partial(places.local_servers, settings, dict(os.environ))
    yield from Check("local servers", servers).findings()
    if find_spec("psutil") is not None:
        yield from Check("temporary server", places.temporary_servers).findings()
    yield from _clocks(settings, on_s3)


def _backends(settings: Settings, usable: Sequence[RegionPolicy]) -> Iterator[Finding]:
    for name in catalog.names():
        targets = sorted({target.name for policy in usable for target in policy.targets if target.backend == name})
        if targets:
            look = partial(installation.backends, {name: targets}, elsewhere=settings.on_pools)
            yield from Check(f"backend {name}", look, 60).findings()


def _models(settings: Settings, usable: Sequence[RegionPolicy]) -> Iterator[Finding]:
    addresses = settings.known_models()
    if not addresses:
        yield from Check("models", project.no_models).findings()
    for address in addresses:
        yield from Check(f"model {address}", partial(project.model, address, usable), 60).findings()


def _stores(settings: Settings, regions: Sequence[str], *, read_only: bool) -> Iterator[Finding]:
    parted = PLACEHOLDER in places.location(settings)
    shared = Check(
        "store of shared" if parted else "store", partial(places.shared_store, settings, read_only=read_only)
    )
    told_of: set[str] = set()
    for finding in shared.findings():
        told_of.add(finding.name)
        yield finding
        if parted and finding.verdict == "wrong":
            yield from places.not_opened(regions)
            return
    for region in regions if parted else ():
        for finding in Check(f"store of {region}", partial(places.regional_store, settings, region)).findings():
            # Another machine leaves its word in many stores.
            if finding.name not in told_of:
                told_of.add(finding.name)
                yield finding


def _prefect(settings: Settings, book: PolicyBook | None) -> Iterator[Finding]:
    address = os.environ.get("PREFECT_API_URL")
    if not address:
        yield from Check("prefect", partial(orchestration.embedded, settings), 60).findings()
        return
    answers = True
    for finding in Check("prefect", partial(orchestration.server, address), 60).findings():
        answers &= finding.verdict != "wrong"
        yield finding
    if not answers:
        return
    checkup = orchestration.checkup()
    if book is None:
        yield from orchestration.not_compared()
    else:
        yield from Check("deployments", partial(checkup.deployments, book, settings), 60).findings()
        yield from Check("workers", partial(checkup.workers, book, settings), 30).findings()
    if settings.notify:
        yield from Check("notification", partial(checkup.notification, settings.notify)).findings()


def _clocks(settings: Settings, on_s3: bool) -> Iterator[Finding]:
    servers = (
        ("the Prefect server", os.environ.get("PREFECT_API_URL")),
        ("the MLflow server", settings.tracking_uri),
        ("the S3 server", _s3_address() if on_s3 else None),
    )
    for server, url in servers:
        if url is not None and url.startswith(("http://", "https://")):
            yield from Check(f"clock, {server}", partial(places.clock, server, url)).findings()


def _s3_address() -> str | None:
    if find_spec("boto3") is None:
        return None
    from regiolect.storage.s3_address import s3_address

    return s3_address()

"""What is installed: Regiolect's code, Python packages in the ranges that it supports, backends."""

from __future__ import annotations

import platform
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata

from packaging.requirements import Requirement

from regiolect import __version__
from regiolect.contracts import short
from regiolect.doctor import runtimes
from regiolect.doctor.finding import Finding, note, ok, told, wrong
from regiolect.engines import catalog
from regiolect.engines.listed import OWN, REFERENCE
from regiolect.errors import BackendUnavailable, DeviceLost
from regiolect.identity.toolchain import own_code

DISTRIBUTION = "regiolect"
CORE = ""
# Without these nothing is released on this machine. Backends are looked at by themselves; one also calibrates.
NEEDED = frozenset({CORE, REFERENCE, "orchestrator", "registry", "release"})
_LEFT_OUT = frozenset({"dev"})
_WHY = {
    "fastapi": "with newer ones every flow of Prefect 3.8 ends in \"unexpected keyword argument 'min_items'\"",
}


def code() -> Iterator[Finding]:
    """Which code this is; a worker with another one refuses to build."""
    yield ok(
        "code",
        expected="the same on every machine that takes part in a release, else its workers answer with OtherVersion",
        found=f"Regiolect {__version__}, code {short(own_code())}, Python {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}",
    )


def packages(needed: Collection[str] = NEEDED, asked: Collection[str] = ()) -> Iterator[Finding]:
    """One finding per extra: what it consists of is installed, in versions that Regiolect supports.

    Args:
        needed: extras that must be there; one that is left out and absent is a note.
        asked: backends that policies ask for. What nobody asks for is no advice.
    """
    try:
        own = metadata.metadata(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        yield note(
            "packages",
            expected="Regiolect as an installed distribution, which lists the versions that it supports",
            found="code that was not installed by pip",
            remedy="pip install 'regiolect[release]'",
        )
        return
    extras = _extras(own)
    told_of: set[str] = set()
    # Extras that include others come later, and add what is theirs alone.
    for extra, belonging in sorted(extras.items(), key=lambda item: (item[0] != CORE, len(item[1]))):
        unnamed = [each for each in belonging if each.name not in told_of]
        yield _extra(extra, unnamed, is_needed=extra in needed, is_asked=extra in asked)
        told_of |= {each.name for each in belonging}


def harmless(remedy: str) -> str:
    """A remedy that breaks no ONNX Runtime that is installed."""
    try:
        return runtimes.harmless(remedy, _extras(metadata.metadata(DISTRIBUTION)))
    except metadata.PackageNotFoundError:
        return remedy


def _extras(own: metadata.PackageMetadata) -> dict[str, list[Requirement]]:
    """What the core and each extra ask for on this machine."""
    requirements = [Requirement(text) for text in own.get_all("Requires-Dist") or ()]
    return {
        extra: [each for each in requirements if _belongs(each, extra)]
        for extra in (CORE, *(own.get_all("Provides-Extra") or ()))
        if extra not in _LEFT_OUT
    }


def _belongs(requirement: Requirement, extra: str) -> bool:
    """Whether an extra asks for it on this machine, where the core does not."""
    # Some builders let an extra name others of ours; those have findings of their own.
    if requirement.name == DISTRIBUTION:
        return False
    if requirement.marker is None:
        return extra == CORE
    in_core = requirement.marker.evaluate({"extra": CORE})
    return in_core if extra == CORE else not in_core and requirement.marker.evaluate({"extra": extra})


def _extra(extra: str, requirements: Sequence[Requirement], *, is_needed: bool, is_asked: bool) -> Finding:
    name = f"packages: {extra or 'core'}"
    backend = catalog.backend(extra) if extra in OWN else None
    present: list[str] = []
    missing: list[str] = []
    outside: list[str] = []
    for requirement in requirements:
        installed = requirement.name
        if backend is not None and installed == backend.distribution:
            installed = backend.carrier()
        try:
            version = metadata.version(installed)
        except metadata.PackageNotFoundError:
            missing.append(installed)
            continue
        present.append(f"{installed} {version}")
        if not requirement.specifier.contains(version, prereleases=True):
            why = f"; {_WHY[requirement.name]}" if requirement.name in _WHY else ""
            outside.append(f"{installed} {version}, outside {requirement.specifier}{why}")
    expected = ", ".join(f"{each.name}{each.specifier}" for each in requirements) or "nothing on this system"
    if backend is not None:
        remedy = backend.installation()
    else:
        remedy = f"pip install '{DISTRIBUTION}[{extra}]'" if extra else f"pip install {DISTRIBUTION}"
    if not missing and not outside:
        return ok(name, expected, ", ".join(present) or "nothing is needed on this system")
    found = "; ".join([*([f"not installed: {', '.join(missing)}"] if missing else []), *outside])
    if is_needed or outside:
        return wrong(name, expected, found, remedy)
    return (
        note(name, expected, found, remedy) if is_asked else note(name, expected, f"{found}; nothing here asks for it")
    )


def backends(targets: Mapping[str, Sequence[str]], *, elsewhere: bool) -> Iterator[Finding]:
    """Whether the libraries load that the policies' targets are built with.

    Args:
        targets: by backend, the names of the targets that it builds for.
        elsewhere: engines are built on other machines, so that one without a backend here is no mistake.
    """
    for backend_name, names in targets.items():
        name = f"backend {backend_name}"
        try:
            backend = catalog.backend(backend_name)
            backend.require()
            obstacle = backend.obstacle()
        except (BackendUnavailable, DeviceLost) as error:
            yield told(name, error, "note" if elsewhere else "wrong")
            continue
        if obstacle is None:
            expected = f"{backend.distribution} to load, for {', '.join(names)}"
            yield ok(name, expected, f"{backend.distribution} {backend.version()}, for {', '.join(names)}")
        else:
            yield note(
                name,
                expected=f"a machine that builds and runs engines for {', '.join(names)}",
                found=f"{backend.distribution} {backend.version()} builds them here, and they do not run "
                f"({obstacle.found}): they are kept as `built, not attested`",
                remedy=obstacle.remedy if obstacle.kind == "software" else "",
            )

"""ONNX Runtime comes as several distributions of one module: two beside each other overwrite each other's files."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

from packaging.requirements import Requirement

from regiolect.doctor.finding import Finding, wrong
from regiolect.engines import catalog
from regiolect.engines.listed import OWN, REFERENCE

NAME = "ONNX Runtime"


def _builds() -> Mapping[str, str]:
    """Distributions that are the same module as the reference's, each with its backend; none knows of the others."""
    backends = map(catalog.backend, OWN)
    return {each.distribution: each.name for each in backends if each.module == catalog.backend(REFERENCE).module}


def installed() -> Mapping[str, str]:
    """Distributions of the module that are installed, with their versions."""
    versions = {}
    for name in _builds():
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def imported() -> str:
    """The distribution and version whose files are imported, as they tell it themselves."""
    spec = find_spec(catalog.backend(REFERENCE).module)
    if spec is None or spec.origin is None:
        return "none of them, for their files are gone"
    told = Path(spec.origin).parent / "capi" / "build_and_package_info.py"
    try:
        stated = dict(re.findall(r"^(\w+) = '([^']*)'", told.read_text(), re.MULTILINE))
        return f"{stated['package_name']} {stated['__version__']} from {told.parent.parent}"
    except (OSError, UnicodeDecodeError, KeyError):
        return f"one that does not tell its name, from {told.parent.parent}"


def beside(asked: Collection[str]) -> Iterator[Finding]:
    """That several are installed, and which of them is imported; nothing where there is one.

    Args:
        asked: backends that policies ask for. What is left after mending serves them.
    """
    versions = installed()
    if len(versions) < 2:
        return
    present = " and ".join(f"{name} {version}" for name, version in versions.items())
    backend = next((name for name in _builds().values() if name in asked and name != REFERENCE), REFERENCE)
    yield wrong(
        NAME,
        expected=f"one distribution of the module {catalog.backend(backend).module}: "
        f"{catalog.backend(backend).distribution}",
        found=f"{present} overwrite each other's files; imported is {imported()}",
        remedy=f"pip uninstall --yes {' '.join(versions)} && pip install 'regiolect[{backend}]'",
    )


def harmless(remedy: str, extras: Mapping[str, Sequence[Requirement]]) -> str:
    """A remedy that does not install `onnxruntime` beside another build of it: what the extra lacks, one by one.

    Args:
        extras: what each of Regiolect's extras asks for on this machine.
    """
    versions = installed()
    if not versions or REFERENCE in versions:
        return remedy
    return re.sub(r"'regiolect\[([\w-]+)\]'", lambda found: _without_reference(found, extras), remedy)


def _without_reference(found: re.Match[str], extras: Mapping[str, Sequence[Requirement]]) -> str:
    wanted = extras.get(found[1], ())
    others = [each for each in wanted if each.name != REFERENCE]
    if len(others) == len(wanted):
        return found[0]
    lacking = [each for each in others if not _is_met(each)] or others
    return " ".join(f"'{each.name}{each.specifier}'" for each in lacking)


def _is_met(requirement: Requirement) -> bool:
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False

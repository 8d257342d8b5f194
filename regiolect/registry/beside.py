"""What MLflow keeps beside a bundle in a version, and obeys: which loader it calls, and what it installs before that.

No bundle's manifest names these files. A promotion signs their digests; of versions that were promoted before it did,
or never, they are read, and may ask for what the bundle needs and for nothing else. MLflow's own format of them is its
own business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from packaging.requirements import InvalidRequirement, Requirement

from regiolect.bundle.manifest import BundleManifest
from regiolect.bundle.requirements import requirements
from regiolect.contracts.plain_yaml import read_yaml
from regiolect.errors import IntegrityError, UnusableFile
from regiolect.host.files import NOTE, cannot_read, read_file
from regiolect.integrity import digest_bytes
from regiolect.registry.versions import BUNDLE, LOADER

DESCRIPTION = "MLmodel"
# MLflow writes here, beside what it downloads, under which name and version it did.
_NOTED = "registered_model_meta"
_PINNED, _CONDA, _PYTHON = "requirements.txt", "conda.yaml", "python_env.yaml"
_ENVIRONMENTS = ({"conda": _CONDA, "virtualenv": _PYTHON}, {"conda": _CONDA}, {"virtualenv": _PYTHON}, _CONDA, None)
# As conda writes it, and as pip does: `python=3.11.7`, `pip<=26.3`.
_TOOL = re.compile(r"(python|pip|setuptools|wheel)([<>=!~]=?[0-9][0-9a-z.]*)?")
_CHANNELS = frozenset({"conda-forge", "defaults"})
_REMEDY = "do not load this version: MLflow would obey the file; delete it, and release the region again"


def digests_beside(model: Path) -> dict[str, str]:
    """The digest of every file of a version that is not the bundle's, by its path.

    Raises:
        IntegrityError: one is a link, something else than a file, or larger than what people write.
    """
    digests = {}
    for path in sorted(model.rglob("*")):
        name = path.relative_to(model).as_posix()
        if path.is_symlink() or not (path.is_dir() or path.is_file()):
            raise IntegrityError("plain files beside the bundle", f"{name}, a link or a device", _REMEDY)
        if path.is_file() and name != _NOTED and not name.startswith(f"{BUNDLE}/"):
            try:
                digests[name] = digest_bytes(read_file(path, NOTE))
            except UnusableFile as error:
                raise IntegrityError(error.expected, error.found, _REMEDY) from error
    return digests


def require_signed(model: Path, signed: Mapping[str, str]) -> None:
    """Raises IntegrityError unless a version has, beside its bundle, the very files that its promotion signed."""
    digests = digests_beside(model)
    wrong = sorted(name for name in {*digests, *signed} if digests.get(name) != signed.get(name))
    if wrong:
        named = ", ".join(f"{name} {_what(name, digests, signed)}" for name in wrong[:5])
        raise IntegrityError("the files beside the bundle that were signed with its promotion", named, _REMEDY)


def _what(name: str, digests: Mapping[str, str], signed: Mapping[str, str]) -> str:
    if name not in digests:
        return "is missing"
    return "was changed" if name in signed else "was added"


def require_obedient(model: Path, manifest: BundleManifest | None) -> None:
    """Require that MLflow loads a version by Regiolect's own loader, from its bundle and no code of the version's, and
    installs what the bundle asks for and nothing else: loading cannot notice, for MLflow obeys these files before
    anybody is asked.

    Args:
        manifest: the bundle's; None if it cannot be read: what is installed is then not judged.

    Raises:
        IntegrityError: it does otherwise.
    """
    wanted = {"flavors": ["python_function"], "loader_module": LOADER, "data": BUNDLE, "code": None}
    described = _yaml(model / DESCRIPTION)
    flavors = _mapping(described.get("flavors"), f"{DESCRIPTION}, flavors")
    pyfunc = _mapping(flavors.get("python_function"), f"{DESCRIPTION}, python_function")
    description = {"flavors": list(flavors), **{name: pyfunc.get(name) for name in ("loader_module", "data", "code")}}
    if description != wanted:
        raise _unlike(
            DESCRIPTION,
            f"by which MLflow loads {', '.join(f'{k} {v!r}' for k, v in wanted.items())}",
            ", ".join(f"{name} {description[name]!r}" for name in wanted if description[name] != wanted[name]),
        )
    if pyfunc.get("predict_fn", "predict") != "predict":
        raise _unlike(DESCRIPTION, "that calls `predict`", f"predict_fn {pyfunc['predict_fn']!r}")
    environments = pyfunc.get("env")
    if environments not in _ENVIRONMENTS:
        raise _unlike(DESCRIPTION, f"whose environments are {_CONDA} and {_PYTHON}", f"env {environments!r}")
    if manifest is not None:
        _require_packages(model, _Packages(manifest))


class _Packages:
    """What a bundle asks for: its runtimes in the versions that built its engines, Regiolect and MLflow in any one."""

    def __init__(self, manifest: BundleManifest) -> None:
        self.wanted = {_key(Requirement(line)) for line in requirements(manifest)}

    def require(self, file: str, lines: Iterable[object]) -> None:
        """Raises IntegrityError unless `lines` of a file ask for just that."""
        named = set()
        for line in lines:
            try:
                asked = Requirement(str(line))
            except InvalidRequirement as error:
                raise self._other(file, repr(line)) from error
            key = _key(asked)
            if asked.url is not None or asked.marker is not None or (key not in self.wanted and key[0] != "mlflow"):
                raise self._other(file, str(line))
            named.add(key)
        if not self.wanted <= named:
            missing = ", ".join(sorted(name for name, *_ in self.wanted - named))
            raise self._other(file, f"nothing about {missing}")

    def _other(self, file: str, found: str) -> IntegrityError:
        asked = ", ".join(sorted(f"{name}{version}" for name, _, version in self.wanted))
        return _unlike(file, f"that asks for {asked} and mlflow", found)


def _key(asked: Requirement) -> tuple[str, frozenset[str], str]:
    # An older release pinned the Regiolect that it was made by.
    return asked.name, frozenset(asked.extras), "" if asked.name == "regiolect" else str(asked.specifier)


def _require_packages(model: Path, packages: _Packages) -> None:
    # Each is written by every MLflow there is; one that is missing installs nothing.
    pinned, conda, python = model / _PINNED, model / _CONDA, model / _PYTHON
    if pinned.exists():
        packages.require(_PINNED, [line for line in map(str.strip, _text(pinned).splitlines()) if line])
    if conda.exists():
        content = _yaml(conda)
        listed = _list(content.get("dependencies"), f"{_CONDA}, dependencies")
        inner = [each for each in listed if not isinstance(each, str)]
        _require_only(_CONDA, content, {"name", "channels", "dependencies"})
        _require_only(_CONDA, _list(content.get("channels", []), f"{_CONDA}, channels"), _CHANNELS)
        _require_tools(_CONDA, [each for each in listed if isinstance(each, str)])
        if len(inner) != 1 or not isinstance(inner[0], dict) or list(inner[0]) != ["pip"]:
            raise _unlike(_CONDA, "with one list of packages for pip", repr(inner))
        packages.require(_CONDA, _list(inner[0]["pip"], f"{_CONDA}, pip"))
    if python.exists():
        content = _yaml(python)
        _require_only(_PYTHON, content, {"python", "build_dependencies", "dependencies"})
        _require_tools(_PYTHON, _list(content.get("build_dependencies", []), f"{_PYTHON}, build_dependencies"))
        listed = _list(content.get("dependencies", []), f"{_PYTHON}, dependencies")
        if listed != [f"-r {_PINNED}"]:
            packages.require(_PYTHON, listed)


def _require_only(file: str, present: Iterable[object], allowed: Iterable[object]) -> None:
    other = sorted(str(each) for each in set(map(str, present)) - set(map(str, allowed)))
    if other:
        raise _unlike(file, f"of {', '.join(sorted(map(str, allowed)))}", ", ".join(other))


def _require_tools(file: str, lines: Iterable[object]) -> None:
    other = [str(line) for line in lines if not _TOOL.fullmatch(str(line))]
    if other:
        raise _unlike(file, "that builds with python, pip, setuptools and wheel", ", ".join(other))


def _text(path: Path) -> str:
    try:
        return read_file(path, NOTE).decode()
    except (OSError, ValueError) as error:
        raise _unlike(path.name, "that can be read", cannot_read(error)) from error


def _yaml(path: Path) -> dict[str, Any]:
    try:
        return _mapping(read_yaml(read_file(path, NOTE)), path.name)
    except (OSError, ValueError) as error:
        raise _unlike(path.name, "that can be read", cannot_read(error)) from error


def _mapping(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise IntegrityError(f"names with values in {where}", f"none of that ({type(value).__name__})", _REMEDY)
    return value


def _list(value: object, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise IntegrityError(f"a list in {where}", f"none of that ({type(value).__name__})", _REMEDY)
    return value


def _unlike(file: str, wanted: str, found: str) -> IntegrityError:
    return IntegrityError(expected=f"a file {file} {wanted}", found=found[:300], remedy=_REMEDY)

"""Policies from their files: read, inherited, checked, every mistake told with the file and the mend."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from regiolect.engines import catalog
from regiolect.errors import InvalidPolicy, PolicyCycle, PolicyLoosens, UnknownRegion
from regiolect.integrity import write_atomic
from regiolect.policy.inheritance import loosened, merged
from regiolect.policy.mistakes import explained
from regiolect.policy.rules import RegionPolicy


def builtin_policies() -> Path:
    """The folder of the policies that ship with Regiolect."""
    import region_policies

    return Path(region_policies.__file__).parent


def copy_builtin(folder: Path) -> list[Path]:
    """Copy the built-in policies and their schema.

    Raises:
        InvalidPolicy: the folder holds policies already; none is overwritten.
        StorageError: the folder cannot be written.
    """
    if any(folder.glob("*.yaml")):
        raise InvalidPolicy(
            expected=f"no policy in {folder} yet",
            found=", ".join(sorted(path.name for path in folder.glob("*.yaml"))),
            remedy="choose a new folder, or copy single files from " + str(builtin_policies()),
        )
    originals = sorted(path for path in builtin_policies().iterdir() if path.suffix in (".yaml", ".json"))
    for path in originals:
        write_atomic(folder / path.name, path.read_bytes())
    return [folder / path.name for path in originals]


class PolicyBook:
    """All policies of a folder, each read once, on demand: what a book said of a region it says as long as it lives.

    Args:
        folder: holds `<region>.yaml` files.

    Raises:
        InvalidPolicy: there is no such folder, or it holds no policy.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = (folder or builtin_policies()).absolute()
        self._loaded: dict[str, RegionPolicy] = {}
        if not self.folder.is_dir() or not self.regions():
            raise InvalidPolicy(
                expected=f"region policies (<region>.yaml) in {self.folder}",
                found="no folder" if not self.folder.is_dir() else "no .yaml file",
                remedy="name the folder with --policies or REGIOLECT_POLICIES, or leave it out for the built-in ones",
            )

    def regions(self) -> tuple[str, ...]:
        """Every region that has a file, in alphabetical order."""
        return tuple(sorted(path.stem for path in self.folder.glob("[!.]*.yaml")))

    def load(self, region: str) -> RegionPolicy:
        """A region's resolved policy.

        Raises:
            UnknownRegion, InvalidPolicy, PolicyCycle, PolicyLoosens: each names the file and the mend.
        """
        if region not in self._loaded:
            self._loaded[region] = self._resolve(region, ())
        return self._loaded[region]

    def all(self) -> tuple[RegionPolicy, ...]:
        """Every policy; the first mistake raises."""
        return tuple(self.load(region) for region in self.regions())

    def _resolve(self, region: str, children: tuple[str, ...]) -> RegionPolicy:
        chain = (*children, region)
        if region in children:
            raise PolicyCycle(
                expected=f"`extends` in {self._path(children[0])} to end at a policy without `extends`",
                found=" -> ".join(chain),
                remedy=f"remove `extends` from one of {', '.join(chain[chain.index(region) : -1])}",
            )
        stated = self._read(region, children)
        parent_name = stated.get("extends")
        if not isinstance(parent_name, str):
            return self._validate(region, stated)
        parent = self._resolve(parent_name, chain)
        inherited = parent.model_dump(mode="json", exclude={"extends"})
        child = self._validate(region, merged(inherited, stated))
        allowed = loosened(parent, child)
        if allowed:
            raise PolicyLoosens(
                expected=f"{self._path(region)} to be at least as strict as {parent_name!r}, which it extends",
                found="; ".join(allowed),
                remedy="tighten the named fields, or remove `extends` and state the whole policy with its own reason",
            )
        return child

    def _path(self, region: str) -> Path:
        return self.folder / f"{region}.yaml"

    def _read(self, region: str, children: tuple[str, ...]) -> dict[str, Any]:
        path = self._path(region)
        if not path.is_file():
            near = difflib.get_close_matches(region, self.regions(), n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"write {path}, or name one of those"
            found = f"policies for {', '.join(self.regions())}"
            if children:
                extending = self._path(children[-1])
                raise InvalidPolicy(f"a policy for `extends: {region}` of {extending}", found, remedy)
            raise UnknownRegion(f"a policy for region {region!r} in {self.folder}", found, remedy)
        try:
            stated = yaml.load(path.read_text(encoding="utf-8"), _Strict)  # noqa: S506 - it is a SafeLoader
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InvalidPolicy(
                expected=f"YAML in {path}", found=str(error).replace("\n", " "), remedy="mend the syntax at that place"
            ) from error
        if not isinstance(stated, dict):
            raise InvalidPolicy(
                expected=f"a mapping of fields in {path}",
                found=type(stated).__name__,
                remedy=f"start from {self.folder / self.regions()[0]}",
            )
        return stated

    def _validate(self, region: str, fields: Mapping[str, Any]) -> RegionPolicy:
        path = self._path(region)
        try:
            # Through JSON, so that YAML's lists fill tuples and its texts fill enumerations.
            policy = RegionPolicy.model_validate_json(json.dumps(fields, default=str))
        except ValidationError as error:
            mistakes = [explained(mistake) for mistake in error.errors()]
            raise InvalidPolicy(
                expected=f"a valid policy in {path}",
                found="; ".join(mistakes),
                remedy=f"mend {'it' if len(mistakes) == 1 else 'them'}, then: regiolect policies validate",
            ) from error
        unknown = [target.backend for target in policy.targets if target.backend not in catalog.names()]
        if unknown:
            near = difflib.get_close_matches(unknown[0], catalog.names(), n=1)
            raise InvalidPolicy(
                expected=f"targets in {path} with a backend out of {', '.join(catalog.names())}",
                found=f"backend: {unknown[0]}",
                remedy=f"did you mean {near[0]!r}?" if near else "name one of those",
            )
        if policy.region != region:
            raise InvalidPolicy(
                expected=f"region: {region} in {path}, as the file is named",
                found=f"region: {policy.region}",
                remedy="rename the file or the field",
            )
        return policy


class _Strict(yaml.SafeLoader):
    """YAML that refuses a key stated twice, where PyYAML would let the last one win in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key!r} is stated twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


def write_schema(path: Path) -> None:
    """Write the JSON schema that editors use to complete and check policy files."""
    schema = RegionPolicy.model_json_schema()
    # A file that extends another may leave out whatever its parent states.
    schema["required"] = ["region", "title", "reason"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    write_atomic(path, (json.dumps(schema, indent=2, sort_keys=True) + "\n").encode())

"""Policies from their files: read, inherited, checked, every mistake told with its file, line, key and mend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from regiolect.engines import catalog
from regiolect.errors import InvalidPolicy, PolicyCycle, PolicyLoosens, UnknownRegion
from regiolect.host.files import NOTE, read_file
from regiolect.integrity import write_atomic
from regiolect.policy.elsewhere import folder_option, folder_with
from regiolect.policy.files import PolicyFile, one_of_several, policy_files, read_policy
from regiolect.policy.inheritance import loosened
from regiolect.policy.mistakes import Key, Mistake, error_of, mentioned, nearest, shown
from regiolect.policy.rules import RegionPolicy
from regiolect.policy.validation import validated


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
    names = [path.name for paths in policy_files(folder).values() for path in paths]
    if names:
        raise InvalidPolicy(
            expected=f"no policy in {folder} yet",
            found=", ".join(names),
            remedy="choose a new folder, or copy single files from " + str(builtin_policies()),
        )
    originals = sorted(path for path in builtin_policies().iterdir() if path.suffix in (".yaml", ".json"))
    for path in originals:
        write_atomic(folder / path.name, read_file(path, NOTE))
    return [folder / path.name for path in originals]


@dataclass(frozen=True)
class _Examined:
    """A file after everything was looked at. `fields` is what can be made of it, for those that extend it."""

    policy: RegionPolicy | None
    fields: Mapping[str, Any]
    mistakes: tuple[Mistake, ...]


class PolicyBook:
    """All policies of a folder, each read once, on demand: what a book said of a region it says as long as it lives.

    Args:
        folder: holds a `<region>.yaml` or `<region>.yml` for each region; default: the built-in ones.
        shown: how mistakes name the folder, where it is a copy of what people know by another name.
        files: stand in for those of the folder, by region, each region's as `policy_files` has them.

    Raises:
        InvalidPolicy: there is no such folder, or it holds no policy.
    """

    def __init__(
        self,
        folder: Path | None = None,
        *,
        shown: str | None = None,
        files: Mapping[str, tuple[Path, ...]] | None = None,
    ) -> None:
        self.folder = (folder or builtin_policies()).absolute()
        self.shown = shown or str(self.folder)
        self._instead = dict(files or {})
        self._files: dict[str, PolicyFile] = {}
        self._known: dict[str, _Examined] = {}
        if not self.folder.is_dir() or not self.regions():
            raise InvalidPolicy(
                expected=f"region policies (<region>.yaml) in {self.shown}",
                found="no folder" if not self.folder.is_dir() else "no .yaml or .yml file",
                remedy=f"name the folder of your policies: {folder_option(None)}; "
                "`regiolect policies copy FOLDER` makes one",
            )

    def regions(self) -> tuple[str, ...]:
        """Every region that has a file, in alphabetical order."""
        return tuple(sorted({*policy_files(self.folder), *self._instead}))

    def load(self, region: str) -> RegionPolicy:
        """A region's resolved policy.

        Raises:
            UnknownRegion: there is no file for it.
            InvalidPolicy, PolicyTooNew, PolicyCycle, PolicyLoosens: names every mistake of the file and of those that
                it extends.
        """
        if region not in self._known and region not in self.regions():
            near, elsewhere = nearest(region, self.regions()), folder_with((region,))
            raise UnknownRegion(
                expected=f"a policy for region {region!r} in {self.shown}",
                found=f"policies for {', '.join(self.regions())}",
                remedy=f"did you mean {near!r}?"
                if near and elsewhere is None
                else f"name the folder in which its policy is: {folder_option(elsewhere)}; "
                f"or write {self._where(region)}, or name one of those",
            )
        policy = self._examine(region).policy
        if policy is None:
            raise error_of(self._concerning(region))
        return policy

    def all(self) -> tuple[RegionPolicy, ...]:
        """Every policy.

        Raises:
            InvalidPolicy, PolicyTooNew, PolicyCycle, PolicyLoosens: names every mistake of every file.
        """
        mistakes = [mistake for told in self.all_mistakes().values() for mistake in told]
        if mistakes:
            raise error_of(mistakes)
        return tuple(self.load(region) for region in self.regions())

    def mistakes(self, region: str) -> tuple[Mistake, ...]:
        """Every mistake of a region's own file, in the order of its lines; those of what it extends are not among them.

        A file without one is still unusable if what it extends is.
        """
        return self._examine(region).mistakes

    def all_mistakes(self) -> Mapping[str, tuple[Mistake, ...]]:
        """Every region, with what is to be mended in its file: nothing is told twice, so a cycle by the first of its
        files alone."""
        told: dict[str, tuple[Mistake, ...]] = {}
        cycles: set[frozenset[str]] = set()
        for region in self.regions():
            mistakes, around = self.mistakes(region), frozenset(self.lineage(region))
            told[region] = tuple(each for each in mistakes if each.error is not PolicyCycle or around not in cycles)
            if told[region] != mistakes or any(each.error is PolicyCycle for each in mistakes):
                cycles.add(around)
        return told

    def origin(self, region: str, key: Key) -> str | None:
        """The region whose file states a field: the region itself, one that it extends, or None for a default."""
        return next((name for name in self.lineage(region) if self._file(name).states(key)), None)

    def lineage(self, region: str) -> tuple[str, ...]:
        """The region, what it extends, what that extends, and so on; a cycle is gone round once."""
        names: list[str] = []
        name: Any = region
        while isinstance(name, str) and name not in names and name in self.regions():
            names.append(name)
            name = self._file(name).stated.get("extends")
        return tuple(names)

    def _concerning(self, region: str) -> list[Mistake]:
        """The mistakes of a file and of what it extends; a cycle that it is part of is told once."""
        own = self.mistakes(region)
        others = [mistake for name in self.lineage(region)[1:] for mistake in self.mistakes(name)]
        cyclic = any(mistake.error is PolicyCycle for mistake in own)
        return [*own, *(mistake for mistake in others if not (cyclic and mistake.error is PolicyCycle))]

    def _examine(self, region: str) -> _Examined:
        if region not in self._known:
            self._known[region] = self._examined(region, self._file(region))
        return self._known[region]

    def _examined(self, region: str, file: PolicyFile) -> _Examined:
        if not file.readable:
            return _Examined(None, {}, file.mistakes)
        wrong, parent, base = self._parent(region, file)
        wrong = [
            *file.mistakes,
            *wrong,
            *_misnamed(region, file),
            *_unknown_backends(file),
            *_wrong_options(file),
            *_wrong_classes(file),
        ]
        complete = parent is not None or not isinstance(file.stated.get("extends"), str)
        policy, fields, invalid = validated(file, base, complete=complete)
        wrong += invalid
        if policy is not None and parent is not None:
            wrong += _loosening(file, parent, policy)
        wrong = sorted(dict.fromkeys(wrong), key=lambda mistake: mistake.line or 0)
        return _Examined(policy if complete and not wrong else None, fields, tuple(wrong))

    def _parent(self, region: str, file: PolicyFile) -> tuple[list[Mistake], RegionPolicy | None, Mapping[str, Any]]:
        """What is wrong with `extends`; the parent's policy if it has one; the fields that can be had from it."""
        name = file.stated.get("extends")
        if not isinstance(name, str):
            return [], None, {}
        line = file.line(("extends",))
        if name not in self.regions():
            regions = ", ".join(self.regions())
            unknown = Mistake(
                error=InvalidPolicy,
                file=file.where,
                line=line,
                key="extends",
                expected=f"a policy for `extends: {name}` of {file.where}",
                found=f"extends: {name}, and policies for {regions}",
                remedy=f"write {self._where(name)}, or name one of those",
                near=nearest(name, self.regions()),
            )
            return [unknown], None, {}
        lineage = self.lineage(region)
        last = self._file(lineage[-1]).stated.get("extends")
        if last == region:
            cycle = Mistake(
                error=PolicyCycle,
                file=file.where,
                line=line,
                key="extends",
                expected=f"`extends` in {file.where} to end at a policy without `extends`",
                found=" -> ".join((*lineage, region)),
                remedy=f"remove `extends` from one of {', '.join(lineage)}",
            )
            return [cycle], None, {}
        if last in lineage:
            # The others are in a cycle, and say so.
            return [], None, {}
        parent = self._examine(name)
        if parent.policy is not None:
            return [], parent.policy, parent.policy.model_dump(mode="json", exclude={"extends", "region"})
        return [], None, {name: value for name, value in parent.fields.items() if name not in ("extends", "region")}

    def _where(self, region: str) -> str:
        return next(iter(self._paths(region)))

    def _paths(self, region: str) -> Mapping[str, Path]:
        """A region's file, by how mistakes name it; several where there should be one."""
        if region in self._instead:
            return {str(path): path for path in self._instead[region]}
        files = policy_files(self.folder).get(region, (self.folder / f"{region}.yaml",))
        return {f"{self.shown}/{path.name}": path for path in files}

    def _file(self, region: str) -> PolicyFile:
        if region not in self._files:
            (where, path), *others = self._paths(region).items()
            self._files[region] = (
                one_of_several(region, [where, *(name for name, _ in others)])
                if others
                else read_policy(path, where, like=self._where(self.regions()[0]))
            )
        return self._files[region]


def _misnamed(region: str, file: PolicyFile) -> list[Mistake]:
    stated = file.stated.get("region", region)
    if stated == region or not isinstance(stated, str):
        return []
    expected = f"region: {region} in {file.where}, as the file is named"
    line, key = file.line(("region",)), ("region",)
    return [
        Mistake.of_field(
            file.where, line, key, f"region: {stated}", expected=expected, remedy="rename the file or the field"
        )
    ]


def _unknown_backends(file: PolicyFile) -> list[Mistake]:
    targets, backends = file.stated.get("targets"), catalog.names()
    names = [
        (number, target["backend"])
        for number, target in enumerate(targets if isinstance(targets, list) else ())
        if isinstance(target, Mapping) and isinstance(target.get("backend"), str)
    ]
    return [
        Mistake.of_field(
            file.where,
            file.line(key),
            key,
            f"backend: {name}",
            expected=f"targets in {file.where} with a backend out of {', '.join(backends)}",
            remedy="name one of those",
            near=nearest(name, backends),
        )
        for number, name in names
        if name not in backends and (key := ("targets", str(number), "backend"))
    ]


def _wrong_options(file: PolicyFile) -> list[Mistake]:
    """Options of targets that their backend does not have, or not with such values."""
    targets = file.stated.get("targets")
    return [
        _wrong_option(file, str(number), target, error)
        for number, target in enumerate(targets if isinstance(targets, list) else ())
        if isinstance(target, Mapping) and isinstance(target.get("options"), Mapping)
        if isinstance(target.get("backend"), str) and target["backend"] in catalog.names()
        for error in _option_errors(target)
    ]


def _wrong_classes(file: PolicyFile) -> list[Mistake]:
    """Classes of arithmetic for a backend whose answers do not depend on the processor."""
    targets = file.stated.get("targets")
    return [
        Mistake.of_field(
            file.where,
            file.line(key),
            key,
            f"arithmetic for backend {target['backend']}",
            expected=f"`arithmetic` in {file.where} for a backend that computes on the processor",
            remedy="remove `arithmetic`",
        )
        for number, target in enumerate(targets if isinstance(targets, list) else ())
        if isinstance(target, Mapping) and target.get("arithmetic") and isinstance(target.get("backend"), str)
        if target["backend"] in catalog.names() and not catalog.backend(target["backend"]).classed
        if (key := ("targets", str(number), "arithmetic"))
    ]


def _option_errors(target: Mapping[str, Any]) -> list[Any]:
    try:
        text = json.dumps(target["options"])
        catalog.backend(target["backend"]).options.model_validate_json(text, strict=True)
    except ValidationError as error:
        # One for an option: a wrong item of a list may also leave the list too short.
        return list({each["loc"][:1]: each for each in reversed(error.errors())}.values())
    return []


def _wrong_option(file: PolicyFile, number: str, target: Mapping[str, Any], error: Any) -> Mistake:
    options = catalog.backend(target["backend"]).options.model_fields
    name = str(error["loc"][0]) if error["loc"] else ""
    key = ("targets", number, "options", *([name] if name else []))
    unknown = error["type"] == "extra_forbidden"
    return Mistake.of_field(
        file.where,
        file.line(key),
        key,
        f"unknown option {name!r}" if unknown else f"{name}: {error['msg']}, found {shown(error['input'])}",
        expected=f"options of {target['backend']} in {file.where}: {', '.join(sorted(options)) or 'it has none'}",
        remedy="name one of those" if options else "remove `options`",
        near=nearest(name, list(options)) if unknown else None,
    )


def _loosening(file: PolicyFile, parent: RegionPolicy, child: RegionPolicy) -> list[Mistake]:
    mistakes = []
    for reason in loosened(parent, child):
        keys = mentioned(reason)
        key = next((key for key in keys if file.states(key)), keys[0] if keys else ())
        mistakes.append(
            Mistake(
                error=PolicyLoosens,
                file=file.where,
                line=file.line(key),
                key=".".join(key),
                expected=f"{file.where} to be at least as strict as {parent.region!r}, which it extends",
                found=reason,
                remedy="tighten the named fields, or remove `extends` and state the whole policy with its own reason",
            )
        )
    return mistakes


def write_schema(path: Path) -> None:
    """Write the JSON schema that editors use to complete and check policy files."""
    schema = RegionPolicy.model_json_schema()
    # A file that extends another may leave out whatever its parent states.
    schema["required"] = ["region", "title", "reason"]
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    write_atomic(path, (json.dumps(schema, indent=2, sort_keys=True) + "\n").encode())

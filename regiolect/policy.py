"""Region policies: what a region allows, promises and requires, as one YAML file each.

`extends` inherits every field that the child does not state. A child may tighten what its parent says and never
loosen it. The digest covers the resolved policy, so two files that say the same have the same digest.
"""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import yaml
from cronsim import CronSim, CronSimError
from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, field_validator, model_validator

from regiolect.contracts import (
    BatchProfile,
    CalibrationMethod,
    Contract,
    Execution,
    LossUnit,
    Performance,
    Precision,
    RegionId,
    Split,
    Target,
)
from regiolect.engines import catalog
from regiolect.errors import InvalidPolicy, PolicyCycle, PolicyLoosens, UnknownRegion
from regiolect.integrity import digest_of, write_atomic
from regiolect.precision import wider_or_equal


class AccuracyLimit(Contract):
    """How much accuracy an engine may lose against the FP32 reference, and how sure the gate must be."""

    metric: str = Field(description="a metric of the model's, by name, e.g. accuracy")
    limit: Annotated[float, Field(ge=0, allow_inf_nan=False, description="largest loss allowed, in `unit`")]
    unit: LossUnit = LossUnit.ABSOLUTE_POINTS
    confidence: Annotated[float, Field(ge=0.8, lt=1.0, description="one-sided confidence of the bound")] = 0.95


class LatencyLimit(Contract):
    """Latency at the profile's optimal batch, on the target."""

    p99_ms: PositiveFloat


class CalibrationRules(Contract):
    """How INT8 thresholds are chosen."""

    method: CalibrationMethod = CalibrationMethod.ENTROPY


class SampleMinimum(Contract):
    """Fewest samples per set; with fewer the region stops."""

    calibration: PositiveInt = 256
    selection: PositiveInt = 500
    gate: PositiveInt = 2000

    def by_split(self) -> dict[Split, int]:
        return {split: getattr(self, split.value) for split in Split}


class NightlyRules(Contract):
    """When the region is released by itself. How the pipeline is run, not what an engine is: outside the digest."""

    cron: str = Field(default="0 2 * * *", description="five fields of cron, in `timezone`")
    timezone: str = Field(default="UTC", description="a name of the IANA time zone database, e.g. Asia/Tokyo")
    deadline_minutes: PositiveFloat = Field(
        default=240, description="a build that takes longer is cancelled and refused"
    )

    @field_validator("cron")
    @classmethod
    def _reads(cls, cron: str) -> str:
        try:
            CronSim(cron, datetime.now(UTC))
        except CronSimError as error:
            raise ValueError(f"no cron expression: {error}") from error
        return cron

    @field_validator("timezone")
    @classmethod
    def _exists(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            near = difflib.get_close_matches(timezone, available_timezones(), n=1)
            raise ValueError("no time zone" + (f" (did you mean {near[0]!r}?)" if near else "")) from error
        return timezone


class ApprovalRules(Contract):
    """A person must agree, with the gate's figures in front of them, before an engine is served."""

    wait_minutes: PositiveFloat = Field(default=60, description="no answer in that time means refused")


class RegionPolicy(Contract):
    """One region's policy, resolved: nothing is inherited any more."""

    format: Literal[1] = Field(default=1, description="version of this file format")
    region: RegionId
    title: str = Field(description="the region's name for people")
    reason: Annotated[str, Field(min_length=20, description="why the policy is as it is, for a compliance officer")]
    extends: RegionId | None = Field(default=None, description="region whose policy fills in what this one leaves out")
    precision: Precision = Field(description="type of the graph, and floor for what executes")
    forbidden: tuple[Execution, ...] = Field(default=(), description="types that no kernel may execute")
    accuracy: AccuracyLimit
    latency: LatencyLimit | None = None
    performance: Performance = Performance.LATENCY
    batch: BatchProfile = BatchProfile()
    calibration: CalibrationRules = CalibrationRules()
    samples: SampleMinimum = SampleMinimum()
    targets: Annotated[tuple[Target, ...], Field(min_length=1, description="where engines run; one engine each")]
    approval: ApprovalRules | None = Field(default=None, description="when stated, a person approves each new engine")
    nightly: NightlyRules = NightlyRules()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if Execution(self.precision) in self.forbidden:
            raise ValueError(f"precision {self.precision} is also listed in `forbidden`")
        names = [target.name for target in self.targets]
        if len(set(names)) != len(names):
            raise ValueError(f"every target needs a name of its own, found {', '.join(names)}")
        return self

    def digest(self) -> str:
        """Identity of the resolved policy: of what it demands of engines, not of when they are made."""
        return digest_of(self.model_dump(mode="json", exclude={"extends", "nightly"}))

    def target(self, name: str) -> Target:
        """The target of that name."""
        return next(target for target in self.targets if target.name == name)


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
        child = self._validate(region, _merge(inherited, stated))
        loosened = _loosened(parent, child)
        if loosened:
            raise PolicyLoosens(
                expected=f"{self._path(region)} to be at least as strict as {parent_name!r}, which it extends",
                found="; ".join(loosened),
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
            mistakes = [_explain(mistake) for mistake in error.errors()]
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


def _merge(parent: Mapping[str, Any], child: Mapping[str, Any]) -> dict[str, Any]:
    """The parent's fields with the child's on top; mappings merge, everything else is replaced whole."""
    merged = dict(parent)
    for key, value in child.items():
        inherited = merged.get(key)
        both = isinstance(value, dict) and isinstance(inherited, Mapping)
        merged[key] = _merge(inherited, value) if both else value  # type: ignore[arg-type]
    return merged


def _loosened(parent: RegionPolicy, child: RegionPolicy) -> list[str]:
    """What the child allows and the parent does not, in words."""
    found = []
    if not wider_or_equal(child.precision, parent.precision):
        found.append(f"precision {child.precision}, coarser than {parent.precision}")
    dropped = [kind.value for kind in parent.forbidden if kind not in child.forbidden]
    if dropped:
        found.append(f"forbidden no longer lists {', '.join(dropped)}")
    if (child.accuracy.metric, child.accuracy.unit) != (parent.accuracy.metric, parent.accuracy.unit):
        found.append("accuracy.metric or accuracy.unit differs, so that the limits cannot be compared")
    if child.accuracy.limit > parent.accuracy.limit:
        found.append(f"accuracy.limit {child.accuracy.limit:g} above {parent.accuracy.limit:g}")
    if child.accuracy.confidence < parent.accuracy.confidence:
        found.append(f"accuracy.confidence {child.accuracy.confidence:g} below {parent.accuracy.confidence:g}")
    if parent.latency and (child.latency is None or child.latency.p99_ms > parent.latency.p99_ms):
        now = "none" if child.latency is None else f"{child.latency.p99_ms:g}"
        found.append(f"latency.p99_ms {now}, above {parent.latency.p99_ms:g}")
    if parent.latency and (child.performance, child.batch) != (parent.performance, parent.batch):
        found.append("performance or batch differs, so that latency.p99_ms would be measured on something else")
    if parent.approval and child.approval is None:
        found.append("approval is left out, so that nobody would be asked")
    if child.calibration != parent.calibration:
        found.append(f"calibration.method {child.calibration.method} instead of {parent.calibration.method}")
    for split, fewest in parent.samples.by_split().items():
        if child.samples.by_split()[split] < fewest:
            found.append(f"samples.{split} {child.samples.by_split()[split]} below {fewest}")
    return found


@functools.cache
def _known_keys() -> frozenset[str]:
    models = (
        *(RegionPolicy, AccuracyLimit, LatencyLimit, CalibrationRules, SampleMinimum, BatchProfile, Target),
        *(NightlyRules, ApprovalRules),
    )
    return frozenset(name for model in models for name in model.model_fields)


def _explain(mistake: Any) -> str:
    """One validation error in a line: where, what, and the nearest valid name for a typo."""
    where = ".".join(str(part) for part in mistake["loc"]) or "the policy as a whole"
    if mistake["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(mistake["loc"][-1]), _known_keys(), n=1)
        return f"unknown field {where!r}" + (f" (did you mean {near[0]!r}?)" if near else "")
    if mistake["type"] == "missing":
        return f"{where!r} is missing"
    return f"{where}: {mistake['msg']}, found {mistake['input']!r}"

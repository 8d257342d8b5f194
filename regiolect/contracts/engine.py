"""What is asked of a backend, what it built, and what the built engine says of itself."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from regiolect.contracts.base import (
    Arithmetic,
    Blob,
    Contract,
    Digest,
    Execution,
    NamedBlob,
    Precision,
    RegionId,
    TargetId,
)
from regiolect.contracts.layers import Strength
from regiolect.contracts.model import TensorSpec


class DimensionProfile(Contract):
    """The sizes that an engine accepts in one dimension, and the one that it is tuned for.

    With `buckets`, what is smaller is padded with zeros at the end, up to the next bucket; then the engine sees sizes
    out of `buckets` only and takes any size from 1 to `max`.
    """

    min: PositiveInt
    opt: PositiveInt
    max: PositiveInt
    buckets: tuple[PositiveInt, ...] = ()

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.min <= self.opt <= self.max:
            raise ValueError(f"a profile must hold min <= opt <= max, found {self.min}, {self.opt}, {self.max}")
        if self.buckets and (list(self.buckets) != sorted(set(self.buckets)) or self.buckets[-1] != self.max):
            raise ValueError(f"buckets must rise and end at max={self.max}, found {list(self.buckets)}")
        return self


class BatchProfile(DimensionProfile):
    """The batch sizes an engine accepts. With `buckets`, a batch is padded up to the next bucket and trimmed after."""

    min: PositiveInt = 1
    opt: PositiveInt = 8
    max: PositiveInt = 64


class Performance(StrEnum):
    """What an engine is tuned for."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"


Configuration = Mapping[str, str]
"""Settings of a loaded engine, by the vendor's names for them. They bear on speed, never on precision."""


Options = Mapping[str, bool | int | str | tuple[str, ...]]
"""Settings of a backend's builder, by the vendor's names for them; each backend says which there are."""


class Target(Contract):
    """Where an engine runs, and through what."""

    name: TargetId
    backend: str
    options: Options = Field(
        default={}, exclude_if=operator.not_, description="how the backend builds for it; docs/targets.md lists them"
    )
    arithmetic: tuple[Arithmetic, ...] = Field(
        default=(),
        exclude_if=operator.not_,
        description="classes of processors whose INT8 arithmetic is taken; by default any, with an engine for each",
    )

    def described(self) -> str:
        """The backend with its options, for people: `tensorrt (builder_optimization_level: 5)`."""
        stated = {**dict(sorted(self.options.items())), **({"arithmetic": self.arithmetic} if self.arithmetic else {})}
        options = ", ".join(
            f"{name}: {' '.join(value) if isinstance(value, tuple) else value}" for name, value in stated.items()
        )
        return f"{self.backend} ({options})" if options else self.backend


def slot_of(target: str, arithmetic: Arithmetic | None) -> str:
    """`cpu-x86--vnni`, or `cpu-x86` for an engine of no class. Names hold no two dashes side by side."""
    return target if arithmetic is None else f"{target}--{arithmetic}"


def place_of(target: str, arithmetic: Arithmetic | None) -> str:
    """`slot_of` for people: `cpu-x86 (vnni)`, or `cpu-x86`."""
    return target if arithmetic is None else f"{target} ({arithmetic})"


class TargetMachine(Contract):
    """What a target was when an engine was last built on it: the parts of a build key that only the target knows.

    One is kept for each class of arithmetic in which INT8 engines were built there, and one for all other engines.
    """

    target: TargetId
    backend: str
    arithmetic: Arithmetic | None = Field(default=None, exclude_if=operator.not_)
    parts: Mapping[str, str]


class BuildRequest(Contract):
    """All that a backend needs to build one engine.

    `graph` is already typed: its precision lives in it. `build_key` names the engine for ever. `shapes` has a profile
    for each symbolic dimension besides the batch, by its name in `inputs`. (A request that was kept before there were
    profiles has none; its engine takes any size there.)
    """

    model: str
    region: RegionId
    target: Target
    precision: Precision
    graph: Blob
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]
    profile: BatchProfile
    shapes: Mapping[str, DimensionProfile] = {}
    performance: Performance
    policy: Digest
    build_key: Digest
    tf32: bool = Field(
        default=False, exclude_if=operator.not_, description="whether the policy lets FP32 kernels compute in TF32"
    )
    arithmetic: Arithmetic | None = Field(
        default=None,
        exclude_if=operator.not_,
        description="class of the processors on which it is built and judged; left out where that does not matter",
    )

    @property
    def slot(self) -> str:
        """The engine's name among those of its model and region: the target's, and the class where there is one."""
        return slot_of(self.target.name, self.arithmetic)

    @property
    def place(self) -> str:
        """`slot` for people."""
        return place_of(self.target.name, self.arithmetic)


class EngineArtifact(Contract):
    """A built engine: pristine files plus what anybody needs to know to load it."""

    format: Literal[1] = 1
    request: BuildRequest
    backend_version: str
    files: Annotated[tuple[NamedBlob, ...], Field(min_length=1)]
    fingerprint: Mapping[str, str] = Field(description="the machine it was built for, as the backend sees it")
    calibration: Digest | None = Field(default=None, description="digest of the calibration table, for INT8")

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.blob.size for file in self.files)


class Misfit(Contract):
    """Something in which an engine and a machine differ. `blocks`: the engine does not run there."""

    what: str = Field(description="as the engine's fingerprint names it, or `library`, `device` or another name")
    engine: str = Field(description="what the engine was built for")
    host: str = Field(description="what the machine is")
    blocks: bool
    remedy: str = Field(default="", description="what to do about it, where that is known; empty otherwise")


class Attestation(Contract):
    """What the graph says and what the built engine says of its precision: compute nodes by type.

    `executed` is None for an engine that cannot run here; such an engine is never approved. `layers` holds a `Layers`
    as JSON, `strength` says how the engine knows; both are None in attestations from before there were layers.
    """

    graph: Mapping[Precision, NonNegativeInt]
    executed: Mapping[Execution, PositiveInt] | None
    source: str = Field(description="what `executed` was read from")
    strength: Strength | None = None
    layers: Blob | None = None
    arithmetic: Arithmetic | None = Field(
        default=None,
        exclude_if=operator.not_,
        description="class of the arithmetic in which INT8 kernels ran; left out where there were none, or no classes",
    )

    @property
    def nodes(self) -> int:
        """Compute nodes of the typed graph."""
        return sum(self.graph.values())

    @property
    def kernels(self) -> int | None:
        """Kernels that compute in the built engine: fewer than `nodes` where it fused some; None when unknown."""
        return None if self.executed is None else sum(self.executed.values())

    def summary(self) -> str:
        """`INT8 9 + FP32 2`, coarsest first, and `INT8 (vnni) 9` of a class; `unknown` when nothing could be read."""
        if self.executed is None:
            return "unknown"
        order = list(Execution)[::-1]
        called = {Execution.INT8: place_of("INT8", self.arithmetic)}
        return " + ".join(f"{called.get(kind, kind)} {self.executed[kind]}" for kind in order if kind in self.executed)

"""A loaded engine, as every backend gives one. The checks are here, once; a backend writes the underscored methods."""

from __future__ import annotations

import os
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import EngineArtifact, Execution, LayerReport, Strength
from regiolect.engines.inputs import batches, checked_rows, fed_shapes, padded, padded_size
from regiolect.errors import EngineError, OtherProcess, ShapeOutsideProfile

Arrays = Mapping[str, NDArray[Any]]

# As the libraries and CUDA say it.
_NO_MEMORY = re.compile(
    r"out.?of.?memory|memory ?allocation|alloc_failed|bad.?alloc|(failed to|cannot|could not( be)?) allocated?",
    re.IGNORECASE,
)
_NO_DEVICE = re.compile(
    r"busy or unavailable|no CUDA-capable device|driver version is insufficient|insufficient ?driver"
    r"|CUDA initialization failure|uncorrectable|illegal (memory access|address)|launch failure",
    re.IGNORECASE,
)


class Engine(ABC):
    """A loaded engine. May be called from several threads at once, of the process that loaded it.

    Attributes:
        strength: how strongly its `layers` bind what it computes in.
        artifact: what was loaded.
        at_once: batches that it computes side by side, if `run_many` is given so many.
        process: the id of the process that loaded it.
    """

    strength: ClassVar[Strength]

    def __init__(self, artifact: EngineArtifact, at_once: int = 1) -> None:
        self.artifact = artifact
        self.at_once = at_once
        self.process = os.getpid()

    @final
    def run(self, inputs: Arrays) -> dict[str, NDArray[Any]]:
        """Outputs by name for one batch.

        With `profile.buckets` the batch is padded with zeros up to the next bucket and the outputs are trimmed, so
        that the engine sees bucket sizes only, and any batch from 1 to `profile.max` is taken. The same goes for every
        symbolic dimension whose profile in `shapes` has buckets, but there outputs cannot be trimmed: how an output's
        size follows from an input's is the model's own affair. An output that grows with the input comes as the padded
        input gave it, and whoever reads it ignores what zeros at the end of a sample gave. Outputs of a model that
        looks at a sample as a whole may also differ a little from those of the unpadded sample.

        Args:
            inputs: preprocessed arrays by input name, of the dtypes and shapes in the request; batch first.

        Returns:
            New arrays whose first axis is the batch, in the order of the request's outputs.

        Raises:
            InvalidSamples: a name, dtype or fixed dimension is wrong, or a value is NaN or infinite.
            ShapeOutsideProfile: the batch, or another symbolic dimension, is smaller or larger than the engine takes.
            OtherProcess: this is a forked child of the process that loaded it.
            EngineError: the vendor's library failed.
        """
        rows = checked_rows(self.artifact.request.inputs, inputs)
        profile = self.artifact.request.profile
        least = 1 if profile.buckets else profile.min
        if not least <= rows <= profile.max:
            raise ShapeOutsideProfile(
                expected=f"a batch of {least} to {profile.max}, the profile this engine was built for",
                found=f"a batch of {rows}",
                remedy="call run_many, which splits large arrays, or widen `profile` in the region's policy",
            )
        return self._padded_runs([dict(inputs)])

    @final
    def run_many(self, inputs: Arrays, batch: int | None = None) -> dict[str, NDArray[Any]]:
        """Outputs by name for any number of samples, computed in batches that fit the profile.

        Args:
            inputs: as for `run`.
            batch: samples at a time, at most `profile.max`; `profile.opt` when None.

        Raises:
            InvalidSamples: as for `run`; rows are counted over the whole array.
            ShapeOutsideProfile: no samples, `batch` is larger than the profile, or another symbolic dimension is
                outside of its own.
            OtherProcess: as for `run`.
            EngineError: the vendor's library failed.
        """
        rows = checked_rows(self.artifact.request.inputs, inputs)
        profile = self.artifact.request.profile
        step = profile.opt if batch is None else batch
        if rows < 1 or not 1 <= step <= profile.max:
            raise ShapeOutsideProfile(
                expected=f"at least one sample, in batches of 1 to {profile.max}",
                found=f"{rows} samples in batches of {step}",
                remedy="choose a smaller batch, or widen `profile` in the region's policy and run again",
            )
        return self._padded_runs(batches(inputs, rows, step))

    def _padded_runs(self, pieces: Sequence[Arrays]) -> dict[str, NDArray[Any]]:
        request = self.artifact.request
        require_own_process(f"{request.model}-{request.region}", self.process)
        sizes = [len(next(iter(piece.values()))) for piece in pieces]
        shapes = fed_shapes(request.inputs, pieces[0], request.shapes)
        prepared = [
            padded(piece, padded_size(size, request.profile), shapes) for piece, size in zip(pieces, sizes, strict=True)
        ]
        try:
            results = self._run(prepared)
        except self._vendor_errors() as error:
            raise EngineError(
                expected=f"{self.artifact.request.target.backend} to run batches of {sorted(set(sizes))}",
                found=excerpt(error),
                remedy="free memory or choose a smaller batch; if it stays, build the engine again with --force",
            ) from error
        outputs: dict[str, NDArray[Any]] = {}
        for name in self.artifact.request.outputs:
            parts = []
            for result, size, given in zip(results, sizes, prepared, strict=True):
                part, fed = result[name], len(next(iter(given.values())))
                if part.ndim == 0 or len(part) != fed:
                    raise EngineError(
                        expected=f"output {name!r} with one row per sample ({fed})",
                        found=f"shape {part.shape}",
                        remedy="export the model with the batch as the first axis of every output",
                    )
                parts.append(part[:size])
            outputs[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return outputs

    @final
    def executed(self) -> Mapping[Execution, int]:
        """Number of compute kernels by the type in which they execute; see `layers`."""
        return Counter(layer.precision for layer in self.layers() if layer.precision is not None)

    @abstractmethod
    def layers(self) -> tuple[LayerReport, ...]:
        """What the engine itself says of each of its layers, in its own order; the same each time.

        Layers that only move, reshape or convert values have no precision. `nodes` are the names that the runtime
        tells, which need not be those of the graph.

        Raises:
            AttestationFailed: the engine names a type that is not known here, or does not tell enough.
        """

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The settings that bear on precision, as the loaded engine itself tells them."""

    @abstractmethod
    def executed_source(self) -> str:
        """What `layers` is read from, for people."""

    @abstractmethod
    def metadata(self) -> Mapping[str, str]:
        """What the engine file says of its origin; see `metadata_of`."""

    @abstractmethod
    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        """Outputs by name of each batch, in order, as arrays that nothing else writes to."""

    @abstractmethod
    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        """What the vendor's library raises."""


def require_own_process(name: str, process: int) -> None:
    """Raises OtherProcess unless this process is the one that loaded an engine: in another it would never answer.

    Args:
        name: of the model, for people.
        process: the id of the process that loaded it.
    """
    if os.getpid() != process:
        raise OtherProcess(
            expected=f"{name} to be used in the process that loaded it, {process}",
            found=f"process {os.getpid()}, which was forked from that one and has none of its threads",
            remedy="load it after the fork, in each worker (gunicorn: no preload_app), or start workers by `spawn`",
        )


def excerpt(message: object, most: int = 600) -> str:
    """A vendor's message or error on one line, cut after `most` characters."""
    text = " ".join(str(message).split()) or f"no message ({type(message).__name__})"
    return text if len(text) <= most else f"{text[:most]}…"


def remedy_for(message: object, otherwise: str) -> str:
    """What to do about a vendor's message or error: `otherwise`, unless memory ran out or a GPU cannot be used."""
    if isinstance(message, MemoryError) or _NO_MEMORY.search(str(message)):
        return (
            "free memory: end what else is using it (`nvidia-smi` lists what is on a GPU), or state a smaller `batch` "
            "in the region's policy"
        )
    if _NO_DEVICE.search(str(message)):
        return "look at `nvidia-smi` and at the kernel's log, then start this process again"
    return otherwise

"""What every backend promises. The checks are here, once; a backend writes only the underscored methods.

A `Backend` builds and loads engines; an `Engine` is a loaded one. Nothing here imports a vendor's library.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import tempfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar, final

import numpy as np
from numpy.typing import NDArray

from regiolect.contracts import (
    BuildRequest,
    Digest,
    EngineArtifact,
    Execution,
    LayerReport,
    NamedBlob,
    Precision,
    Strength,
)
from regiolect.engines.files import verified_bytes
from regiolect.engines.inputs import batches, checked_rows, fed_shapes, padded, padded_size, require_profiles
from regiolect.errors import (
    BackendUnavailable,
    BuildFailed,
    EngineError,
    EngineLoadFailed,
    IntegrityError,
    NotRunnableHere,
    ShapeOutsideProfile,
    StorageError,
)
from regiolect.machine import cpu_fingerprint
from regiolect.precision import Recipe
from regiolect.storage import Store

Arrays = Mapping[str, NDArray[Any]]


def metadata_of(request: BuildRequest) -> dict[str, str]:
    """What an engine file itself says of its origin, in the place that its format has for that."""
    return {
        "model": request.model,
        "region": request.region,
        "target": request.target.name,
        "precision": request.precision.value,
        "policy": request.policy,
        "build_key": request.build_key,
    }


def require_interface(request: BuildRequest, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises BuildFailed unless a graph's inputs and outputs are those of the request."""
    wanted = ([tensor.name for tensor in request.inputs], list(request.outputs))
    if sorted(wanted[0]) != sorted(inputs) or sorted(wanted[1]) != sorted(outputs):
        raise BuildFailed(
            expected=f"a graph of {request.model!r} with inputs {wanted[0]} and outputs {wanted[1]}",
            found=f"inputs {list(inputs)} and outputs {list(outputs)}",
            remedy="name in the ModelSpec the inputs and outputs that the ONNX graph has",
        )


class Engine(ABC):
    """A loaded engine. May be called from several threads at once.

    Attributes:
        strength: how strongly its `layers` bind what it computes in.
    """

    strength: ClassVar[Strength]

    def __init__(self, artifact: EngineArtifact) -> None:
        self.artifact = artifact

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


class Backend(ABC):
    """Builds and loads engines through one vendor's library.

    Attributes:
        name: as policies write it.
        distribution: the installed distribution that carries the library.
        module: the library's import name.
        file_names: the files of an engine.
    """

    name: ClassVar[str]
    distribution: ClassVar[str]
    module: ClassVar[str]
    file_names: ClassVar[tuple[str, ...]]

    @final
    def version(self) -> str:
        """Version of the vendor's library; cheap, imports nothing.

        Raises:
            BackendUnavailable: it is not installed.
        """
        try:
            return importlib.metadata.version(self.distribution)
        except importlib.metadata.PackageNotFoundError as error:
            raise self._unavailable("it is not installed") from error

    @final
    def require(self) -> None:
        """Import the vendor's library.

        Raises:
            BackendUnavailable: it is not installed, or does not load.
        """
        self.version()
        try:
            importlib.import_module(self.module)
        except (ImportError, OSError) as error:
            raise self._unavailable(f"it does not load: {excerpt(error)}") from error

    def fingerprint(self) -> Mapping[str, str]:
        """What an engine built now depends on besides its request: library, and the machine it is for. Cheap."""
        return {"backend": self.name, "version": self.version(), **cpu_fingerprint()}

    def obstacle(self) -> str | None:
        """Why engines of this backend cannot run on this machine; None if they can."""
        return None

    @abstractmethod
    def recipe(self, precision: Precision) -> Recipe:
        """How this backend wants a precision written into the graph."""

    @final
    def build(self, request: BuildRequest, store: Store, calibration: Digest | None = None) -> EngineArtifact:
        """Build one engine and keep its files in the store.

        Args:
            request: names the typed graph, which lies in `store`.
            calibration: digest of the calibration table behind an INT8 graph.

        Raises:
            BackendUnavailable: the vendor's library is missing or does not load.
            BuildFailed: it refused the graph, its own error is the cause; or a symbolic dimension besides the batch
                has no profile.
            StorageError: the store or the temporary folder cannot be read or written.
            IntegrityError: the graph in the store was changed.
        """
        self.require()
        require_profiles(request)
        graph = store.path_of(request.graph)
        try:
            with tempfile.TemporaryDirectory(prefix="regiolect-build-") as temporary:
                folder = Path(temporary)
                self._build(graph, request, folder)
                files = tuple(NamedBlob(path=name, blob=store.put_file(folder / name)) for name in self.file_names)
        except OSError as error:
            raise StorageError(
                expected=f"to write an engine below {tempfile.gettempdir()}",
                found=excerpt(error),
                remedy="free space there, or point TMPDIR at a larger disk, and run again",
            ) from error
        except self._vendor_errors() as error:
            raise BuildFailed(
                expected=f"a graph of {request.model!r} ({request.precision}) that {self.name} {self.version()} builds",
                found=excerpt(error),
                remedy="replace the operator named here in the model, or name another backend in the policy's targets",
            ) from error
        return EngineArtifact(
            request=request,
            backend_version=self.version(),
            files=files,
            fingerprint=dict(self.fingerprint()),
            calibration=calibration,
        )

    @final
    def load(self, artifact: EngineArtifact, store: Store) -> Engine:
        """Load an engine from the store.

        Raises:
            IntegrityError: a file's bytes, or the origin it tells, differ from the artifact's.
            EngineLoadFailed: a file is missing or the library cannot read it.
            NotRunnableHere: the engine was built for another kind of machine.
            BackendUnavailable: the vendor's library is missing or does not load.
            StorageError: the store cannot be read.
        """
        return self._load_verified(artifact, lambda file: store.path_of(file.blob))

    @final
    def load_from(self, artifact: EngineArtifact, folder: Path) -> Engine:
        """Load an engine whose files lie in `folder` under the paths that the artifact names.

        Raises:
            As `load`; nothing is deserialized before its digest was found right.
        """

        def path_in_folder(file: NamedBlob) -> Path:
            path = PurePosixPath(file.path)
            if path.is_absolute() or ".." in path.parts:
                raise IntegrityError(
                    expected=f"engine files inside {folder}",
                    found=f"the path {file.path!r}",
                    remedy="the bundle was made by somebody else; fetch it again from the registry",
                )
            return folder / path

        return self._load_verified(artifact, path_in_folder)

    def _load_verified(self, artifact: EngineArtifact, locate: Callable[[NamedBlob], Path]) -> Engine:
        # The bytes that were verified are the bytes that are deserialized: the file is not opened a second time.
        files = {file.path: verified_bytes(locate(file), file.blob.digest) for file in artifact.files}
        if sorted(files) != sorted(self.file_names):
            raise EngineLoadFailed(
                expected=f"an engine of {self.name} with the files {', '.join(self.file_names)}",
                found=", ".join(sorted(files)),
                remedy=f"load it with the backend it was built by: {artifact.request.target.backend}",
            )
        obstacle = self.obstacle()
        if obstacle is not None:
            raise NotRunnableHere(
                expected=f"a machine that runs engines of {self.name}",
                found=obstacle,
                remedy="run it on its own target, or name the backend openvino or onnxruntime in the policy's targets",
            )
        self.require()
        try:
            engine = self._load(files, artifact)
        except self._vendor_errors() as error:
            raise EngineLoadFailed(
                expected=f"an engine that {self.name} {self.version()} loads: {', '.join(sorted(files))}",
                found=excerpt(error),
                remedy=f"it was built with {self.name} {artifact.backend_version}; build it again with --force",
            ) from error
        if dict(engine.metadata()) != metadata_of(artifact.request):
            raise IntegrityError(
                expected=f"an engine file that tells its origin as {metadata_of(artifact.request)}",
                found=str(dict(engine.metadata())),
                remedy="the file belongs to another engine; fetch the bundle again from the registry",
            )
        return engine

    def _unavailable(self, found: str) -> BackendUnavailable:
        return BackendUnavailable(
            expected=f"the library of backend {self.name!r}, distribution {self.distribution!r}",
            found=found,
            remedy=f"pip install 'regiolect[{self.name}]'",
        )

    @abstractmethod
    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        """Write `file_names` into `folder`; the same bytes for the same request, where the vendor's builder can."""

    @abstractmethod
    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact) -> Engine:
        """The engine in `files`: the bytes of each of `file_names`, verified."""

    @abstractmethod
    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        """What the vendor's library raises; asked for only when something was raised."""


def excerpt(message: object, most: int = 600) -> str:
    """A vendor's message or error on one line, cut after `most` characters."""
    text = " ".join(str(message).split()) or f"no message ({type(message).__name__})"
    return text if len(text) <= most else f"{text[:most]}…"

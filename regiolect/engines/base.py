"""What every backend promises: to build engines and to load them.

The checks are here, once; a backend writes only the underscored methods. Nothing here imports a vendor's library.
"""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import ClassVar, final

from regiolect.contracts import (
    Arithmetic,
    BuildRequest,
    Configuration,
    Contract,
    Digest,
    EngineArtifact,
    Misfit,
    NamedBlob,
    Precision,
    Target,
)
from regiolect.engines.arithmetic import other_arithmetic
from regiolect.engines.engine import Engine, excerpt, remedy_for
from regiolect.engines.files import verified_bytes
from regiolect.engines.inputs import require_profiles
from regiolect.engines.library import Library
from regiolect.engines.listed import brought_by, elsewhere
from regiolect.engines.obstacle import Obstacle, device_for
from regiolect.engines.origin import metadata_of
from regiolect.errors import (
    BackendUnavailable,
    BuildFailed,
    EngineLoadFailed,
    IntegrityError,
    InvalidConfiguration,
    NotRunnableHere,
    StorageError,
)
from regiolect.host.cpu import UNKNOWN, cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.precision import Recipe, traits
from regiolect.storage import Store

AS_IT_COMES: Configuration = {}
"""The configuration that a backend has for a request's `performance` when nothing was tuned."""
OTHER_VERSION = "install the version of Regiolect that released it, or a newer one"
"""Remedy for what an engine's manifest tells and this version does not understand."""
REPLACE = "replace the operator named here in the model, or name another backend in the policy's targets"
"""What to do about a graph that a vendor's library refuses."""


class NoOptions(Contract):
    """Of a backend whose builder has no settings that a policy may state."""


class Backend(Library, ABC):
    """Builds and loads engines through one vendor's library.

    `catalog.backend` gives one by its name; nothing of the vendor's is imported before an engine is built or loaded.

        >>> import numpy as np
        >>> from regiolect.bundle.manifest import engine_folder, read_bundle
        >>> from regiolect.engines import catalog
        >>> artifact = read_bundle(Path("bundle")).engines[0].engine
        >>> backend = catalog.backend(artifact.request.target.backend)
        >>> backend.misfits(artifact)
        ()
        >>> engine = backend.load_from(artifact, Path("bundle") / engine_folder(artifact.request.slot))
        >>> engine.run_many({"image": np.zeros((2, 1, 4, 4), np.float32)})["logits"].shape
        (2, 3)

    A new one is a subclass that states the attributes and writes the abstract methods, and its line in `listed`.
    `tests/contract` says whether it keeps what is promised here.

    Attributes: those of `Library`, and
        file_names: the files of an engine.
        recipes: how each precision that it has is written into the graph.
        options: what a policy may state in a target's `options`.
        tunable: names of the settings that a configuration may hold. None of them bears on precision.
        binding: names of the fingerprint's entries in which an engine and a machine must agree for it to run there.
        anywhere: whether engines need no device of their own, and run on every machine that has the library.
        classed: whether answers of INT8 engines depend on the processor's class of arithmetic.
    """

    file_names: ClassVar[tuple[str, ...]]
    recipes: ClassVar[Mapping[Precision, Recipe]]
    options: ClassVar[type[Contract]] = NoOptions
    tunable: ClassVar[frozenset[str]] = frozenset()
    binding: ClassVar[frozenset[str]] = frozenset({"backend"})
    anywhere: ClassVar[bool] = False
    classed: ClassVar[bool] = False

    def fingerprint(self) -> Mapping[str, str]:
        """What an engine built now depends on besides its request: libraries, and the machine it is for. Cheap."""
        return {"backend": self.name, "version": self.version(), **brought_by(self.name), **cpu_fingerprint()}

    def built_on(self) -> Mapping[str, str]:
        """What an artifact tells of the machine that built it, on which it is measured next: the fingerprint, and what
        that leaves out because an engine does not depend on it. Cheap.

        Raises:
            DeviceLost: the machine's device does not answer.
        """
        return self.fingerprint()

    def device(self) -> Mapping[str, str]:
        """What the speed of an engine here depends on: the fingerprint, and what that leaves out as not binding. Cheap.

        Raises:
            DeviceLost: the machine's device does not answer.
        """
        return {**self.fingerprint(), "cores": str(processors())}

    @abstractmethod
    def arithmetic(self) -> Arithmetic | None:
        """The class of the arithmetic in which this process runs INT8 engines of this backend. Cheap.

        None for a backend that computes on another device than the processor, and for a processor that does not tell.
        """

    def obstacle(self) -> Obstacle | None:
        """Why engines of this backend cannot run on this machine; None if they can.

        Raises:
            DeviceLost: the machine's device does not answer.
        """
        return None

    def misfits(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        """In what an engine and this machine differ; imports no vendor's library and reads no file of the engine.

        One that `blocks` says that the engine does not run here. Any other: nobody measured it on such a machine, for
        engines that are compiled when they are loaded run on every machine that has the library. What one side does not
        know is taken for a difference.

        Args:
            artifact: what a manifest tells of the engine.

        Returns:
            A misfit for each difference; nothing on a machine like the one on which the engine was built and judged.

        Raises:
            DeviceLost: the machine's device does not answer.
        """
        try:
            here = dict(self.fingerprint())
        except BackendUnavailable as error:
            return (self._lacking(artifact, self._no_software(error.found)),)
        built_on = {"backend": self.name, **artifact.fingerprint, "version": artifact.backend_version}
        differing = tuple(
            Misfit(what=name, engine=theirs, host=ours, blocks=name in self.binding)
            for name in dict.fromkeys([*built_on, *here])
            for theirs, ours in [(built_on.get(name, UNKNOWN), here.get(name, UNKNOWN))]
            if theirs != ours or theirs == UNKNOWN
        )
        obstacle = self.obstacle()
        lacking = () if obstacle is None else (self._lacking(artifact, obstacle),)
        judged = other_arithmetic(artifact, self.arithmetic()) if self.classed else ()
        return (*lacking, *judged, *differing)

    def origin(self, request: BuildRequest) -> Mapping[str, str]:
        """What an engine of that request says of its origin: `metadata_of`, or less where the backend says why."""
        return metadata_of(request)

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        """What is worth trying on this machine, `AS_IT_COMES` first. Settings are named as the vendor names them."""
        return (AS_IT_COMES,)

    def baseline_of(self, target: Target) -> Target:
        """The target as its FP32 baseline is built for it: there may be no FP32 kernels for all that is asked for."""
        return target

    def recipe(self, precision: Precision, arithmetic: Arithmetic | None) -> Recipe:
        """How this backend wants a precision written into the graph.

        Args:
            precision: the type of the graph.
            arithmetic: the class that the engine is for, as `arithmetic` of the process that will run it. Where it is
                not known, the graph is one that is right in every class.

        Returns:
            Types, zero points, scales and operators of the graph's Q/DQ nodes; of wider precisions, no operators.

        Raises:
            BuildFailed: the backend does not have that precision.
        """
        if precision not in self.recipes:
            raise BuildFailed(
                expected=f"a precision that {self.name} has: {', '.join(self.recipes)}",
                found=f"{precision}, for which it has no recipe",
                remedy="state one of these precisions in the policy, or name another backend in its targets",
            )
        return self.recipes[precision]

    @final
    def recipe_here(self, precision: Precision) -> Recipe:
        """`recipe` for the arithmetic of this process."""
        return self.recipe(precision, self.arithmetic())

    @final
    def build(self, request: BuildRequest, store: Store, calibration: Digest | None = None) -> EngineArtifact:
        """Build one engine and keep its files in the store.

        Args:
            request: names the typed graph, which lies in `store`. One for INT8 that states no class of arithmetic gets
                that of this process, where the backend has classes.
            store: where the graph is read and the engine's files are kept.
            calibration: digest of the calibration table behind an INT8 graph.

        Returns:
            The engine as data: its request, its files in the store, and the machine that built it.

        Raises:
            BackendUnavailable: the vendor's library is missing or does not load.
            BuildFailed: it refused the graph, its own error is the cause; or a symbolic dimension besides the batch
                has no profile.
            StorageError: the store or the temporary folder cannot be read or written.
            IntegrityError: the graph in the store was changed.
        """
        self.require()
        require_profiles(request)
        if self.classed and traits(request.precision).by_arithmetic and request.arithmetic is None:
            request = request.model_copy(update={"arithmetic": self.arithmetic()})
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
                remedy=remedy_for(error, REPLACE),
            ) from error
        return EngineArtifact(
            request=request,
            backend_version=self.version(),
            files=files,
            fingerprint=dict(self.built_on()),
            calibration=calibration,
        )

    @final
    def load(self, artifact: EngineArtifact, store: Store, configuration: Configuration = AS_IT_COMES) -> Engine:
        """Load an engine from the store.

        Args:
            artifact: the engine, as `build` told it.
            store: where its files are kept.
            configuration: out of those that `configurations` lists, wherever they were listed.

        Returns:
            An engine that answers: float32 inputs by name in, outputs by name out.

        Raises:
            InvalidConfiguration: it holds a setting that is not `tunable`; nothing was loaded.
            IntegrityError: a file's bytes, or the origin it tells, differ from the artifact's.
            EngineLoadFailed: a file is missing or the library cannot read it.
            NotRunnableHere: the engine was built for another kind of machine: one of `misfits` blocks.
            DeviceLost: the machine's device does not answer.
            BackendUnavailable: the vendor's library is missing or does not load.
            StorageError: the store cannot be read.
        """
        return self._load_verified(artifact, lambda file: store.path_of(file.blob), configuration)

    @final
    def load_from(self, artifact: EngineArtifact, folder: Path, configuration: Configuration = AS_IT_COMES) -> Engine:
        """Load an engine whose files lie in `folder` under the paths that the artifact names.

        Args:
            artifact, configuration: as for `load`.
            folder: for one of a bundle, `engines/<slot>` in it.

        Returns:
            As `load`.

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

        return self._load_verified(artifact, path_in_folder, configuration)

    def _load_verified(
        self, artifact: EngineArtifact, locate: Callable[[NamedBlob], Path], configuration: Configuration
    ) -> Engine:
        unknown = sorted(configuration.keys() - self.tunable)
        if unknown:
            raise InvalidConfiguration(
                expected=f"settings of {self.name} that may be tuned: {', '.join(sorted(self.tunable)) or 'none'}",
                found=", ".join(unknown),
                remedy="tune the engine again with this version: regiolect tune MODEL --force",
            )
        # The bytes that were verified are the bytes that are deserialized: the file is not opened a second time.
        files = {file.path: verified_bytes(locate(file), file.blob) for file in artifact.files}
        if sorted(files) != sorted(self.file_names):
            raise EngineLoadFailed(
                expected=f"an engine of {self.name} with the files {', '.join(self.file_names)}",
                found=", ".join(sorted(files)),
                remedy=f"load it with the backend it was built by: {artifact.request.target.backend}",
            )
        if artifact.request.target.backend != self.name:
            raise EngineLoadFailed(
                expected=f"an engine that was built by {self.name}",
                found=f"one of {artifact.request.target.backend}",
                remedy=f"load it with the backend it was built by: {artifact.request.target.backend}",
            )
        # Before the comparison, which would take a library that is missing for another kind of machine.
        self.version()
        needed = [misfit for misfit in self.misfits(artifact) if misfit.blocks]
        if needed:
            raise NotRunnableHere(
                expected=f"what this engine of {self.name} is bound to: "
                + ", ".join(f"{each.what} {each.engine}" for each in needed),
                found=", ".join(each.host for each in needed),
                remedy="; ".join(each.remedy for each in needed if each.remedy)
                or f"run it on its own target, or {elsewhere(self.name)}",
            )
        self.require()
        try:
            engine = self._load(files, artifact, configuration)
        except self._vendor_errors() as error:
            raise EngineLoadFailed(
                expected=f"an engine that {self.name} {self.version()} loads: {', '.join(sorted(files))}",
                found=excerpt(error),
                remedy=remedy_for(
                    error, f"it was built with {self.name} {artifact.backend_version}; build it again with --force"
                ),
            ) from error
        origin = dict(self.origin(artifact.request))
        if dict(engine.metadata()) != origin:
            raise IntegrityError(
                expected=f"an engine file that tells its origin as {origin}",
                found=str(dict(engine.metadata())),
                remedy="the file belongs to another engine; fetch the bundle again from the registry",
            )
        return engine

    def _no_device(self, found: str | None) -> Obstacle | None:
        """What only another machine mends, or another policy; None if nothing was found."""
        if found is None:
            return None
        return Obstacle("device", found, f"run it on its own target, or {elsewhere(self.name)}")

    def _lacking(self, artifact: EngineArtifact, obstacle: Obstacle) -> Misfit:
        """An obstacle, as that which keeps an engine from running here."""
        if obstacle.kind == "device":
            return Misfit(what="device", engine=device_for(artifact), host=obstacle.found, blocks=True)
        version = artifact.backend_version
        return Misfit(
            what="library",
            engine=f"{self.distribution} {version}",
            host=obstacle.found,
            blocks=True,
            remedy=f"{obstacle.remedy} {self.carrier()}=={version}",
        )

    @abstractmethod
    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        """Write `file_names` into `folder`; the same bytes for the same request, where the vendor's builder can.

        Args:
            graph: file of the typed ONNX graph, read only.
            request: precision, profiles and options that hold for it.
            folder: empty.
        """

    @abstractmethod
    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        """The engine in `files`.

        Args:
            files: the verified bytes of each of `file_names`; they are what is to be deserialized, no file.
            artifact: what the engine is.
            configuration: of `tunable` settings alone.
        """

    @abstractmethod
    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        """What the vendor's library raises; asked for only when something was raised."""

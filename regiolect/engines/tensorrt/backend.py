"""TensorRT and TensorRT-RTX as backends. Imports no vendor's library."""

from __future__ import annotations

import importlib.metadata
import platform
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact, Misfit, Precision
from regiolect.engines.base import AS_IT_COMES, Backend, Obstacle, metadata_of
from regiolect.engines.engine import Engine
from regiolect.engines.tensorrt.fits import other_flavour, plain_misfits, rtx_misfits
from regiolect.engines.tensorrt.library import Flavour
from regiolect.engines.tensorrt.recipe import (
    COMPUTE_CAPABILITIES,
    RECIPES,
    PlainOptions,
    RtxOptions,
    dotted,
    supported,
)
from regiolect.errors import BackendUnavailable, BuildFailed, EngineLoadFailed, InvalidSetting
from regiolect.gpus import gpu, seeing
from regiolect.precision import Recipe

_RUNNABLE = tuple(dotted(name) for name in COMPUTE_CAPABILITIES[Precision.FP16])


class _TensorRt(Backend):
    """What both flavours share: an engine is a plan (engine.plan), strongly typed, of one flavour for ever."""

    file_names = ("engine.plan",)
    flavour: ClassVar[str]

    def recipe(self, precision: Precision) -> Recipe:
        return RECIPES[precision]

    def _library(self) -> Mapping[str, str]:
        return {
            "backend": self.name,
            "flavour": self.flavour,
            "version": self.version(),
            "system": platform.system(),
            "machine": platform.machine(),
        }

    def device(self) -> Mapping[str, str]:
        """The fingerprint, and this machine's GPU, which a plan of TensorRT-RTX may run on without being built for it
        alone."""
        found = gpu()
        return {**self.fingerprint(), **({} if found is None else found.fingerprint())}

    def misfits(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        foreign = other_flavour(artifact, self.flavour)
        if foreign is not None:
            return (foreign,)
        unable = self._unable(artifact)
        return unable or self._differences(artifact)

    def _unable(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        """Why nothing of this flavour runs here, if nothing does."""
        try:
            self.version()
        except BackendUnavailable as error:
            return (self._lacking(artifact, self._no_software(error.found)),)
        obstacle = self.obstacle()
        return () if obstacle is None else (self._lacking(artifact, obstacle),)

    def _no_gpu(self, needed: str) -> Obstacle | None:
        if not seeing():
            return self._no_software("nvidia-ml-py is not installed, and no GPU is seen without")
        return None if gpu() is not None else self._no_device(f"no NVIDIA GPU, or no driver for one; {needed}")

    def _no_bindings(self) -> Obstacle | None:
        try:
            importlib.metadata.version("cuda-bindings")
        except importlib.metadata.PackageNotFoundError:
            return self._no_software("cuda-bindings is not installed, and plans are run through it")
        return None

    @abstractmethod
    def _differences(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        """In what a plan of this flavour and a machine that runs such plans differ."""

    @abstractmethod
    def _own(self) -> Flavour:
        """The flavour; imports its library."""

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect.engines.tensorrt.builder import build

        try:
            self.options.model_validate(request.target.options)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise InvalidSetting(
                expected=f"options of {self.name} for target {request.target.name!r}",
                found=f"options.{place}: {first['msg']}, found {first['input']!r}",
                remedy=f"mend it in the policy of {request.region!r}",
            ) from error
        build(graph, request, folder, self._own(), self.origin(request))

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        foreign = other_flavour(artifact, self.flavour)
        if foreign is not None:
            raise EngineLoadFailed(
                expected=f"a plan of the flavour {self.flavour!r}",
                found=f"one of the flavour {foreign.engine!r}",
                remedy="build it again: neither flavour of TensorRT reads plans of the other",
            )
        try:
            from regiolect.engines.tensorrt.runtime import load
        except ImportError as error:
            raise self._unavailable(f"cuda-bindings does not load: {error}") from error
        return load(files, artifact, configuration, self._own())

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return (RuntimeError, TypeError, MemoryError)


class TensorRtBackend(_TensorRt):
    """Plain TensorRT, 10.12 to 10.16 and 11: built on the GPU that it is for.

    A plan runs on that model of GPU with that version of TensorRT, unless the target's options ask for more.
    """

    name = "tensorrt"
    distribution = "tensorrt"
    module = "tensorrt"
    flavour = "tensorrt"
    options = PlainOptions
    tunable = frozenset({"contexts", "cuda_graphs"})
    binding = frozenset({"backend", "flavour", "version", "system", "machine", "gpu", "compute capability"})

    def fingerprint(self) -> Mapping[str, str]:
        """Library, GPU, driver and newest CUDA of that driver; `none` where there is no GPU, and nothing is built."""
        device = gpu()
        if device is None:
            return {**self._library(), "gpu": "none"}
        return {**self._library(), **device.fingerprint(), "cuda": device.cuda}

    def obstacle(self) -> Obstacle | None:
        return self._outdated() or self._no_gpu("TensorRT builds and runs plans on one") or self._no_bindings()

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        return (
            AS_IT_COMES,
            {"cuda_graphs": "1"},
            {"contexts": "2"},
            {"contexts": "2", "cuda_graphs": "1"},
            {"contexts": "4", "cuda_graphs": "1"},
        )

    def origin(self, request: BuildRequest) -> Mapping[str, str]:
        """A refittable plan does not tell a build key: it is taken over by those that change its weights alone."""
        told = metadata_of(request)
        if request.target.options.get("refittable"):
            del told["build_key"]
        return told

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        found = self._outdated() or self._no_gpu("TensorRT builds plans on the GPU that they are for")
        if found is not None:
            raise BuildFailed(
                expected=f"a machine that builds plans of TensorRT for {request.target.name!r}",
                found=found.found,
                remedy=f"start a worker of the pool {request.target.name!r} on such a machine; "
                "the backend tensorrt-rtx builds without a GPU",
            )
        super()._build(graph, request, folder)

    def _outdated(self) -> Obstacle | None:
        try:
            version = self.version()
        except BackendUnavailable as error:
            return self._no_software(f"TensorRT: {error.found}")
        if supported(version):
            return None
        return self._no_software(f"TensorRT {version}, and 10.12 to 10.16 or 11 is needed")

    def _differences(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        return plain_misfits(artifact, self.fingerprint())

    def _own(self) -> Flavour:
        from regiolect.engines.tensorrt.plain import Plain

        return Plain()


class TensorRtRtxBackend(_TensorRt):
    """TensorRT-RTX: built on any x86-64 machine, for every GPU in `recipe.COMPUTE_CAPABILITIES` or those of a target's
    options."""

    name = "tensorrt-rtx"
    distribution = "tensorrt-rtx-cu13"
    module = "tensorrt_rtx"
    flavour = "rtx"
    options = RtxOptions
    tunable = frozenset({"contexts", "cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"})
    binding = frozenset({"backend", "flavour", "version", "system", "machine"})

    def fingerprint(self) -> Mapping[str, str]:
        """The library, and the GPUs that plans are for; not the GPU of the machine that builds."""
        listed = {f"gpus {precision}": " ".join(names) for precision, names in COMPUTE_CAPABILITIES.items()}
        return {**self._library(), **listed}

    def obstacle(self) -> Obstacle | None:
        needed = f"TensorRT-RTX runs plans on compute capabilities {', '.join(_RUNNABLE)}"
        device = gpu()
        if device is None:
            return self._no_gpu(needed)
        if device.compute_capability not in _RUNNABLE:
            return self._no_device(f"{device.name} has compute capability {device.compute_capability}, and {needed}")
        return self._no_bindings()

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        graphs = {"cuda_graph_strategy": "WHOLE_GRAPH_CAPTURE"}
        eager = {"dynamic_shapes_kernel_specialization_strategy": "EAGER"}
        return (AS_IT_COMES, graphs, eager, {**graphs, **eager}, {**graphs, "contexts": "2"})

    def _differences(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        return rtx_misfits(artifact, self.device())

    def _own(self) -> Flavour:
        from regiolect.engines.tensorrt.rtx import Rtx

        return Rtx()

"""TensorRT and TensorRT-RTX as backends. Imports no vendor's library."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from abc import abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import ValidationError

from regiolect.contracts import Arithmetic, BuildRequest, Configuration, EngineArtifact, Misfit, Precision, Target
from regiolect.engines.base import AS_IT_COMES, Backend
from regiolect.engines.engine import Engine, excerpt
from regiolect.engines.inputs import few_shapes
from regiolect.engines.obstacle import Obstacle
from regiolect.engines.origin import metadata_of
from regiolect.engines.tensorrt.fits import other_flavour, plain_misfits, rtx_misfits
from regiolect.engines.tensorrt.library import Flavour
from regiolect.engines.tensorrt.options import COMPUTE_CAPABILITIES, Options, PlainOptions, RtxOptions
from regiolect.engines.tensorrt.recipe import LEAN, RECIPES, dotted, supported
from regiolect.errors import BackendUnavailable, BuildFailed, EngineLoadFailed, InvalidSetting
from regiolect.host.gpu import gpu, lost_if_gone, seeing, unclear

# GPUs that run plans of one precision at least.
_RUNNABLE = tuple(dotted(name) for name in max(COMPUTE_CAPABILITIES.values(), key=len))


class _TensorRt(Backend):
    """What both flavours share: an engine is a plan (engine.plan), strongly typed, of one flavour for ever."""

    file_names = ("engine.plan",)
    recipes = RECIPES
    options: ClassVar[type[Options]]
    flavour: ClassVar[str]

    def arithmetic(self) -> Arithmetic | None:
        """None: GPUs sum 8 x 8 bit products in int32."""
        return None

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
        gpu_here = gpu()
        return {**self.fingerprint(), **({} if gpu_here is None else gpu_here.fingerprint())}

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
        return self._no_device(f"no NVIDIA GPU, or no driver for one; {needed}" if gpu() is None else unclear())

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

    def _flavour(self) -> Flavour:
        try:
            return self._own()
        except (ImportError, OSError) as error:
            raise self._unavailable(f"it does not load: {excerpt(error)}") from error

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect.engines.tensorrt.builder import build

        try:
            wrong = self.options.model_validate(request.target.options).without_kernels(request.precision)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise _wrong_option(self.name, request, f"{place}: {first['msg']}, found {first['input']!r}") from error
        if wrong is not None:
            raise _wrong_option(self.name, request, wrong)
        build(graph, request, folder, self._flavour(), self.origin(request))

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        try:
            from regiolect.engines.tensorrt.runtime import load
        except ImportError as error:
            raise self._unavailable(f"cuda-bindings does not load: {error}") from error
        flavour = self._flavour()
        with lost_if_gone(artifact.request.target.name, (EngineLoadFailed, *self._vendor_errors())):
            return load(files, artifact, configuration, flavour)

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

    def fingerprint(self) -> Mapping[str, str]:
        """Library, GPU, driver and newest CUDA of that driver; `none` where there is no GPU, and nothing is built."""
        device = gpu()
        if device is None:
            return {**self._library(), "gpu": "none"}
        return {**self._library(), **device.fingerprint(), "cuda": device.cuda}

    def installation(self) -> str:
        """NVIDIA's own index has it."""
        return f"{super().installation()} --extra-index-url https://pypi.nvidia.com"

    def obstacle(self) -> Obstacle | None:
        return self._outdated() or self._no_gpu("TensorRT builds and runs plans on one") or self._no_bindings()

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        """Contexts side by side, and CUDA graphs where shapes are few: one is recorded anew when the shape changes."""
        two = {"contexts": "2"}
        if not few_shapes(request):
            return (AS_IT_COMES, two)
        graphs = {"cuda_graphs": "1"}
        return (AS_IT_COMES, graphs, two, {**two, **graphs}, {"contexts": "4", **graphs})

    def origin(self, request: BuildRequest) -> Mapping[str, str]:
        """A refittable plan does not tell a build key: it is taken over by those that change its weights alone."""
        metadata = metadata_of(request)
        if request.target.options.get("refittable"):
            del metadata["build_key"]
        return metadata

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        obstacle = self._outdated() or self._no_gpu("TensorRT builds plans on the GPU that they are for")
        if obstacle is not None:
            raise BuildFailed(
                expected=f"a machine that builds plans of TensorRT for {request.target.name!r}",
                found=obstacle.found,
                remedy=f"start a worker of the pool {request.target.name!r} on such a machine; "
                "the backend tensorrt-rtx builds without a GPU",
            )
        with lost_if_gone(request.target.name, (BuildFailed, *self._vendor_errors())):
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
        return plain_misfits(artifact, self.fingerprint(), lean=bool(os.environ.get(LEAN)))

    def _own(self) -> Flavour:
        from regiolect.engines.tensorrt.plain import Plain

        return Plain()


class TensorRtRtxBackend(_TensorRt):
    """TensorRT-RTX: built on any x86-64 machine, for every GPU in `options.COMPUTE_CAPABILITIES` or those of a target's
    options."""

    name = "tensorrt-rtx"
    distribution = "tensorrt-rtx-cu13"
    module = "tensorrt_rtx"
    flavour = "rtx"
    options = RtxOptions
    tunable = frozenset({"contexts", "cuda_graph_strategy", "dynamic_shapes_kernel_specialization_strategy"})

    def fingerprint(self) -> Mapping[str, str]:
        """The library, and the GPUs that plans are for; not the GPU of the machine that builds."""
        listed = {f"gpus {precision}": " ".join(names) for precision, names in COMPUTE_CAPABILITIES.items()}
        return {**self._library(), **listed}

    def built_on(self) -> Mapping[str, str]:
        """The fingerprint, and this machine's GPU if it has one: a plan that was built without one tells of none."""
        return self.device()

    def obstacle(self) -> Obstacle | None:
        needed = f"TensorRT-RTX runs plans on compute capabilities {', '.join(_RUNNABLE)}"
        device = gpu()
        if device is None:
            return self._no_gpu(needed)
        if device.compute_capability not in _RUNNABLE:
            return self._no_device(f"{device.name} has compute capability {device.compute_capability}, and {needed}")
        return self._no_gpu(needed) or self._no_bindings()

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        """Kernels for the very shapes at once, and CUDA graphs where shapes are few."""
        eager = {"dynamic_shapes_kernel_specialization_strategy": "EAGER"}
        if not few_shapes(request):
            return (AS_IT_COMES, eager)
        graphs = {"cuda_graph_strategy": "WHOLE_GRAPH_CAPTURE"}
        return (AS_IT_COMES, graphs, eager, {**graphs, **eager}, {**graphs, "contexts": "2"})

    def baseline_of(self, target: Target) -> Target:
        options = RtxOptions.model_validate(target.options)
        stated = options.compute_capabilities or ()
        kept = tuple(name for name in stated if name in COMPUTE_CAPABILITIES[Precision.FP32])
        options = options.model_copy(update={"compute_capabilities": kept or None})
        return target.model_copy(update={"options": options.model_dump(exclude_none=True)})

    def _differences(self, artifact: EngineArtifact) -> tuple[Misfit, ...]:
        return rtx_misfits(artifact, self.device())

    def _own(self) -> Flavour:
        from regiolect.engines.tensorrt.rtx import Rtx

        return Rtx()


def _wrong_option(backend: str, request: BuildRequest, found: str) -> InvalidSetting:
    return InvalidSetting(
        expected=f"options of {backend} for target {request.target.name!r}",
        found=f"options.{found}",
        remedy=f"mend it in the policy of {request.region!r}",
    )

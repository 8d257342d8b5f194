"""What TensorRT-RTX does its own way: one plan for several compute capabilities, built without a GPU; what is compiled
when it is first run is kept on the machine. It has no timing cache."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import tensorrt_rtx as rtx

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact
from regiolect.engines.tensorrt.caches import KeptNowAndThen, MachineCache
from regiolect.engines.tensorrt.library import Contexts, Flavour, Library
from regiolect.engines.tensorrt.options import RtxOptions
from regiolect.host.gpu import gpu

if TYPE_CHECKING:
    import tensorrt as trt

CUDA_GRAPHS = "cuda_graph_strategy"
SPECIALIZATION = "dynamic_shapes_kernel_specialization_strategy"


class _Contexts(Contexts):
    """Contexts that share the kernels which TensorRT-RTX compiles for this GPU at run time."""

    def __init__(self, engine: Any, cache: MachineCache, configuration: Configuration) -> None:
        self._engine = engine
        self._config = engine.create_runtime_config()
        self._cache = self._config.create_runtime_cache()
        kept = cache.load()
        if kept is not None and not self._cache.deserialize(kept):
            cache.set_aside("foreign", "TensorRT-RTX does not take it", kept)
            self._cache.reset()
        self._config.set_runtime_cache(self._cache)
        compiled = self._cache
        self._kept = KeptNowAndThen(cache, lambda: bytes(compiled.serialize()))
        # When the engine goes, or the process ends.
        weakref.finalize(self, self._kept.finish)
        if CUDA_GRAPHS in configuration:
            self._config.cuda_graph_strategy = rtx.CudaGraphStrategy.__members__[configuration[CUDA_GRAPHS]]
        if SPECIALIZATION in configuration:
            strategies = rtx.DynamicShapesKernelSpecializationStrategy.__members__
            self._config.dynamic_shapes_kernel_specialization_strategy = strategies[configuration[SPECIALIZATION]]

    def create(self) -> trt.IExecutionContext | None:
        made: trt.IExecutionContext | None = self._engine.create_execution_context(self._config)
        return made

    def warmed(self) -> None:
        self._kept.learnt()


class Rtx(Flavour):
    """TensorRT-RTX."""

    title = "TensorRT-RTX"

    @property
    def library(self) -> Library:
        return rtx  # type: ignore[no-any-return]  # the vendor ships no types

    @property
    def version(self) -> str:
        return str(rtx.__version__)

    def options(self, request: BuildRequest) -> RtxOptions:
        return RtxOptions.model_validate(request.target.options)

    def make(
        self,
        builder: trt.Builder,
        network: trt.INetworkDefinition,
        config: trt.IBuilderConfig,
        graph: bytes,
        request: BuildRequest,
    ) -> bytes | None:
        settings: Any = config
        names = self.options(request).listed(request.precision)
        settings.num_compute_capabilities = len(names)
        for place, name in enumerate(names):
            settings.set_compute_capability(rtx.ComputeCapability.__members__[name], place)
        plan = builder.build_serialized_network(network, config)
        return None if plan is None else bytes(plan)

    def runtimes(self, logger: trt.ILogger, artifact: EngineArtifact) -> tuple[trt.Runtime, ...]:
        return (rtx.Runtime(logger),)

    def contexts(self, engine: trt.ICudaEngine, artifact: EngineArtifact, configuration: Configuration) -> Contexts:
        device = gpu()
        key = {
            **({} if device is None else device.fingerprint()),
            "version": str(rtx.__version__),
            "plan": artifact.files[0].blob.digest,
        }
        return _Contexts(engine, MachineCache("runtime", key), configuration)

"""What plain TensorRT does its own way: timings of kernels kept for exactly this GPU and these versions, plans for
other GPUs or versions if a policy asks for them, and plans that are refitted when only weights changed.

Written for 10.12 to 10.16 and 11: what 11 dropped is not used, and a flag that it ignores is passed all the same.
"""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping

import tensorrt as trt

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact
from regiolect.engines.tensorrt.caches import MachineCache
from regiolect.engines.tensorrt.library import Contexts, Flavour, Library, Messages, RefitRefused
from regiolect.engines.tensorrt.listeners import logger_of
from regiolect.engines.tensorrt.options import PlainOptions
from regiolect.engines.tensorrt.recipe import LEAN
from regiolect.errors import NotRunnableHere
from regiolect.host.gpu import gpu
from regiolect.identity.toolchain import own_code
from regiolect.integrity import digest_of
from regiolect.progress import note

CUDA_GRAPHS = "cuda_graphs"
_DISTRIBUTIONS = ("tensorrt", "tensorrt-cu12-libs", "tensorrt-cu13-libs")


class _Contexts(Contexts):
    def __init__(self, engine: trt.ICudaEngine, configuration: Configuration) -> None:
        self._engine = engine
        self.graphs = configuration.get(CUDA_GRAPHS) == "1"

    def create(self) -> trt.IExecutionContext | None:
        return self._engine.create_execution_context()

    def warmed(self) -> None:
        """Nothing is compiled at run time."""


class Plain(Flavour):
    """NVIDIA TensorRT."""

    title = "TensorRT"

    @property
    def library(self) -> Library:
        return trt

    @property
    def version(self) -> str:
        return trt.__version__

    def options(self, request: BuildRequest) -> PlainOptions:
        return PlainOptions.model_validate(request.target.options)

    def make(
        self,
        builder: trt.Builder,
        network: trt.INetworkDefinition,
        config: trt.IBuilderConfig,
        graph: bytes,
        request: BuildRequest,
    ) -> bytes | None:
        options, machine = self.options(request), machine_key()
        config.builder_optimization_level = options.builder_optimization_level
        level = trt.HardwareCompatibilityLevel.__members__[options.hardware_compatibility.upper()]
        config.hardware_compatibility_level = level
        if options.version_compatible:
            config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
            # The runtime of the plan's version is code, and no bundle carries any: a host has its own.
            config.set_flag(trt.BuilderFlag.EXCLUDE_LEAN_RUNTIME)
        if not options.refittable:
            return _built(builder, network, config, machine)
        # Reads graphs with onnx, which whoever only runs plans does not have.
        from regiolect.engines.tensorrt.refit import structure

        # A plan says of itself what it was built for, all but the build key: it is refitted under other ones.
        config.set_flag(trt.BuilderFlag.REFIT)
        config.set_flag(trt.BuilderFlag.STRIP_PLAN)
        built_for = digest_of(request.model_dump(mode="json", include={"profile", "shapes", "tf32", "target"}))
        key = {
            **machine,
            "structure": structure(graph),
            "name": network.name,
            "built for": built_for,
            # What a plan holds besides its graph is this code's choice.
            "regiolect": own_code(),
        }
        kept = MachineCache("stripped", key)
        stripped = kept.load()
        if stripped is not None:
            refitted = _refitted(stripped, graph, logger_of(trt, Messages()))
            if refitted is not None:
                note(f"{request.region} {request.target.name}: only weights changed, the plan is refitted")
                return refitted
            note(f"{request.region} {request.target.name}: TensorRT does not refit the plan, it is built anew")
        stripped = _built(builder, network, config, machine)
        if stripped is None:
            return None
        refitted = _refitted(stripped, graph, builder.logger)
        if refitted is None:
            raise RefitRefused("TensorRT does not refit the plan that it built")
        # What could not be refitted is not kept: the next build would be refused by it again.
        kept.keep(stripped)
        return refitted

    def runtimes(self, logger: trt.ILogger, artifact: EngineArtifact) -> tuple[trt.Runtime, ...]:
        runtime = trt.Runtime(logger)
        # As the artifact has it: the distribution's.
        if artifact.backend_version == _installed("tensorrt"):
            return (runtime,)
        # A plan of another version gets here if it is compatible and this machine names a lean runtime: `misfits`.
        path = os.environ.get(LEAN, "")
        lean = runtime.load_runtime(path) if path else None
        if lean is None:
            major = artifact.backend_version.partition(".")[0]
            raise NotRunnableHere(
                expected=f"the lean runtime of TensorRT {artifact.backend_version}, which built this plan, in {LEAN}",
                found=f"{path or 'nothing'}, which TensorRT {self.version} does not load",
                remedy=f"export {LEAN}=/path/to/libnvinfer_lean.so.{major}, of that version",
            )
        return runtime, lean

    def contexts(self, engine: trt.ICudaEngine, artifact: EngineArtifact, configuration: Configuration) -> Contexts:
        return _Contexts(engine, configuration)


def machine_key() -> Mapping[str, str]:
    """Everything that the timing of a kernel depends on.

    Raises:
        NotRunnableHere: there is no GPU.
    """
    device = gpu()
    if device is None:
        raise NotRunnableHere(
            expected="the NVIDIA GPU that a plan of TensorRT is built for",
            found="no GPU that the driver shows to this process",
            remedy="build on a worker of the target's own pool, or name tensorrt-rtx, whose plans need no GPU to build",
        )
    installed = {name: _installed(name) for name in _DISTRIBUTIONS}
    return {**device.fingerprint(), "cuda": device.cuda, "tensorrt": trt.__version__, **installed}


def _installed(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "absent"


def _built(
    builder: trt.Builder, network: trt.INetworkDefinition, config: trt.IBuilderConfig, machine: Mapping[str, str]
) -> bytes | None:
    """Build with the timings that are known on this machine, and add what was learnt to them."""
    cache = MachineCache("timing", machine)
    kept = cache.load()
    timings = config.create_timing_cache(kept or b"")
    if kept is not None and (timings is None or not config.set_timing_cache(timings, ignore_mismatch=False)):
        cache.set_aside("foreign", "TensorRT does not take it", kept)
        kept, timings = None, config.create_timing_cache(b"")
    if kept is None and timings is not None:
        config.set_timing_cache(timings, ignore_mismatch=False)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        return None
    learnt = config.get_timing_cache()
    if learnt is None:
        return bytes(plan)
    with cache.alone():
        meanwhile = cache.load()
        if meanwhile is not None and meanwhile != kept:
            others = config.create_timing_cache(meanwhile)
            if others is not None:
                learnt.combine(others, ignore_mismatch=False)
        cache.keep(bytes(learnt.serialize()))
    return bytes(plan)


def _refitted(stripped: bytes, graph: bytes, logger: trt.ILogger) -> bytes | None:
    """A whole plan: the kernels of `stripped` with the weights of `graph`; None if TensorRT does not refit it."""
    runtime = trt.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(stripped)
    if engine is None:
        return None
    refitter = trt.Refitter(engine, logger)
    if not trt.OnnxParserRefitter(refitter, logger).refit_from_bytes(graph):
        return None
    if refitter.get_missing_weights() or not refitter.refit_cuda_engine():
        return None
    config = engine.create_serialization_config()
    config.clear_flag(trt.SerializationFlag.EXCLUDE_WEIGHTS)
    return bytes(engine.serialize_with_config(config))

"""ONNX Runtime's CUDA provider as a backend of its own."""

from __future__ import annotations

import importlib.metadata
import itertools
from collections.abc import Mapping

from regiolect.contracts import Arithmetic, BuildRequest, Configuration, EngineArtifact
from regiolect.engines.base import AS_IT_COMES
from regiolect.engines.engine import Engine
from regiolect.engines.inputs import few_shapes
from regiolect.engines.obstacle import Obstacle
from regiolect.engines.onnxruntime.backend import OnnxRuntimeBackend
from regiolect.engines.onnxruntime.configurations import CUDA_GRAPH
from regiolect.engines.onnxruntime.recipe import CUDA_RECIPES
from regiolect.errors import EngineLoadFailed
from regiolect.host.gpu import gpu, lost_if_gone, seeing, unclear

# What a GPU without TensorRT may gain by, each with the value that differs from the provider's own. `fuse_conv_bias` is
# not among them: with ONNX Runtime 1.31 it gave wrong answers in FP32 beside CUDA graphs, failed in FP16 where a sum
# follows a convolution, and gained nothing (tests/gpu, benchmarks/results/gpu.md).
_CHOICES = {"prefer_nhwc": "1", CUDA_GRAPH: "1", "cudnn_conv_algo_search": "HEURISTIC"}


class OnnxRuntimeCudaBackend(OnnxRuntimeBackend):
    """Engines are the typed graph (engine.onnx), optimized for the GPU when they are loaded.

    The graph is written and checked on any machine, also with the `onnxruntime` for processors; only a GPU runs it.
    """

    name = "onnxruntime-cuda"
    distribution = "onnxruntime-gpu"
    carried_by = ()
    builds_with = ("onnxruntime",)
    recipes = CUDA_RECIPES
    tunable = frozenset(_CHOICES)
    anywhere = False
    classed = False

    def arithmetic(self) -> Arithmetic | None:
        """None: GPUs sum 8 x 8 bit products in int32."""
        return None

    def installation(self) -> str:
        # Installed beside each other, one overwrites the other's files.
        before = "" if _has_provider() else "pip uninstall --yes onnxruntime && "
        return before + super().installation()

    def fingerprint(self) -> Mapping[str, str]:
        """The library, and the GPU of this machine: an engine runs on others too, but nobody measured it there."""
        device = gpu()
        here = device.fingerprint() if device is not None else {"gpu": "none"}
        return {"backend": self.name, "version": self.version(), **here}

    def device(self) -> Mapping[str, str]:
        """The fingerprint: what runs on a GPU does not depend on the processor's cores."""
        return self.fingerprint()

    def obstacle(self) -> Obstacle | None:
        """No driver or GPU here, or a library without the CUDA provider."""
        if not seeing():
            return self._no_software("nvidia-ml-py is not installed, and no GPU is seen without")
        if gpu() is None:
            return self._no_device("no NVIDIA GPU, or no driver for one")
        if not _has_provider():
            return self._no_software("a GPU, but an onnxruntime without CUDA provider")
        return self._no_device(unclear())

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        """Every combination of channels-last layout, CUDA graphs and the heuristic search for convolutions.

        A CUDA graph is captured per shape, so it is only tried where shapes are few.
        """
        few = few_shapes(request)
        names = [name for name in _CHOICES if few or name != CUDA_GRAPH]
        combinations = itertools.chain.from_iterable(
            itertools.combinations(names, count) for count in range(1, len(names) + 1)
        )
        return (AS_IT_COMES, *({name: _CHOICES[name] for name in chosen} for chosen in combinations))

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        from regiolect.engines.onnxruntime.cuda_runtime import load

        with lost_if_gone(artifact.request.target.name, (EngineLoadFailed, *self._vendor_errors())):
            return load(files, artifact, configuration)


def _has_provider() -> bool:
    try:
        importlib.metadata.version(OnnxRuntimeCudaBackend.distribution)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True

"""TensorRT-RTX as a backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact, Precision
from regiolect.engines.base import Backend
from regiolect.engines.engine import Engine
from regiolect.engines.tensorrt.recipe import COMPUTE_CAPABILITIES, RECIPES
from regiolect.engines.tensorrt.runtime import obstacle
from regiolect.errors import NotRunnableHere
from regiolect.precision import Recipe


class TensorRtRtxBackend(Backend):
    """Engines are plans (engine.plan) for every GPU in `recipe.COMPUTE_CAPABILITIES`.

    They are built without a GPU, kept and shown; see `runtime.obstacle` for why they are not run.
    """

    name = "tensorrt"
    distribution = "tensorrt-rtx-cu13"
    module = "tensorrt_rtx"
    file_names = ("engine.plan",)

    def recipe(self, precision: Precision) -> Recipe:
        return RECIPES[precision]

    def fingerprint(self) -> Mapping[str, str]:
        """The library's flavour and version, and the GPUs that plans are for; not the machine that builds."""
        return {
            "backend": self.name,
            "flavour": "rtx",
            "version": self.version(),
            **{f"gpus {precision}": " ".join(names) for precision, names in COMPUTE_CAPABILITIES.items()},
        }

    def obstacle(self) -> str | None:
        return obstacle()

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect.engines.tensorrt.builder import build

        build(graph, request, folder)

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        raise NotRunnableHere(
            expected=f"a machine that runs {', '.join(files)}", found=obstacle(), remedy="run it on its own target"
        )

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return (RuntimeError,)

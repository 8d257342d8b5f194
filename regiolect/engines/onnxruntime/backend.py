"""ONNX Runtime as a backend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from regiolect.contracts import Arithmetic, BuildRequest, Configuration, EngineArtifact
from regiolect.engines.base import Backend
from regiolect.engines.engine import Engine
from regiolect.engines.onnxruntime.configurations import TUNABLE, configurations
from regiolect.engines.onnxruntime.recipe import RECIPES
from regiolect.host.arithmetic import arithmetic_here


class OnnxRuntimeBackend(Backend):
    """Engines are the typed graph itself (engine.onnx), optimized for the processor when they are loaded."""

    name = "onnxruntime"
    distribution = "onnxruntime"
    carried_by: ClassVar[tuple[str, ...]] = ("onnxruntime-gpu",)
    module = "onnxruntime"
    file_names = ("engine.onnx",)
    recipes = RECIPES
    tunable = TUNABLE
    anywhere = True
    classed = True

    def installation(self) -> str:
        # The build for GPUs runs these engines as well, and this one beside it would overwrite its files.
        carried = self.carrier() in self.carried_by
        return "pip install 'regiolect[onnxruntime-cuda]'" if carried else super().installation()

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        return configurations()

    def arithmetic(self) -> Arithmetic | None:
        return arithmetic_here()

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect.engines.onnxruntime.builder import build

        build(graph, request, folder, classed=self.classed)

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        from regiolect.engines.onnxruntime.runtime import load

        return load(files, artifact, configuration)

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        from regiolect.engines.onnxruntime.session import ERRORS

        return ERRORS

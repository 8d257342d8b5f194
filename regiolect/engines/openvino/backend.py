"""OpenVINO as a backend."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from regiolect.contracts import Arithmetic, BuildRequest, Configuration, EngineArtifact, Precision
from regiolect.engines.base import Backend
from regiolect.engines.engine import Engine
from regiolect.engines.openvino.configurations import TUNABLE, configurations
from regiolect.engines.openvino.processor import kernels_arithmetic
from regiolect.engines.openvino.recipe import RECIPES, for_arithmetic
from regiolect.host.cpu import cpu_fingerprint
from regiolect.precision import Recipe


class OpenVinoBackend(Backend):
    """Engines are OpenVINO's own IR (engine.xml, engine.bin), compiled for the processor when they are loaded."""

    name = "openvino"
    distribution = "openvino"
    module = "openvino"
    file_names = ("engine.xml", "engine.bin")
    recipes = RECIPES
    tunable = TUNABLE
    anywhere = True
    classed = True

    def configurations(self, request: BuildRequest) -> tuple[Configuration, ...]:
        return configurations(request.performance)

    def arithmetic(self) -> Arithmetic | None:
        """The processor's, or what oneDNN's switch in the environment caps it to."""
        return kernels_arithmetic(cpu_fingerprint(), os.environ)

    def recipe(self, precision: Precision, arithmetic: Arithmetic | None) -> Recipe:
        return for_arithmetic(super().recipe(precision, arithmetic), arithmetic)

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect.engines.openvino.builder import build

        build(graph, request, folder)

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        from regiolect.engines.openvino.runtime import load

        return load(files, artifact, configuration)

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        from regiolect.engines.openvino.runtime import ERRORS

        return ERRORS

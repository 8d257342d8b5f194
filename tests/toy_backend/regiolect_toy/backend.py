"""The backend: what Regiolect asks without the library, which is imported where it is used."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from regiolect.contracts import Arithmetic, BuildRequest, Configuration, EngineArtifact, Precision
from regiolect.engines.base import Backend
from regiolect.engines.engine import Engine
from regiolect.precision import Recipe


class ToyBackend(Backend):
    """Engines are the typed graph itself (engine.onnx), interpreted operator by operator with numpy."""

    name = "toy"
    distribution = "onnx"
    module = "onnx"
    file_names = ("engine.onnx",)
    # FP32 alone: a policy that states another precision for this backend is refused when it is planned.
    recipes: ClassVar[Mapping[Precision, Recipe]] = {Precision.FP32: Recipe()}
    anywhere = True

    def arithmetic(self) -> Arithmetic | None:
        """None: nothing here sums 8 x 8 bit products."""
        return None

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        from regiolect_toy.builder import build

        build(graph, request, folder)

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        from regiolect_toy.runtime import load

        return load(files, artifact)

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        from regiolect_toy.runtime import ERRORS

        return ERRORS

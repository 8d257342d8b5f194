"""Load and run an ONNX Runtime engine on the processor."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from regiolect.contracts import Configuration, EngineArtifact, LayerReport
from regiolect.engines.engine import Arrays, Engine, excerpt, remedy_for
from regiolect.engines.inputs import padded_size
from regiolect.engines.onnxruntime.configurations import side_by_side
from regiolect.engines.onnxruntime.session import CPU, ERRORS, OPTIMIZED, Provider, open_session
from regiolect.errors import AttestationFailed

METADATA_PREFIX = "regiolect."
# Size given in the run that is profiled to a symbolic dimension without a profile, as older requests have them.
_PROBE_SIZE = 64


def load(files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> OnnxRuntimeEngine:
    """Optimize the graph in `files` for this processor.

    Args:
        configuration: in place of ONNX Runtime's own choices.

    Raises:
        One of `session.ERRORS`: ONNX Runtime cannot read or run it.
    """
    return OnnxRuntimeEngine(artifact, files["engine.onnx"], CPU, configuration)


class OnnxRuntimeEngine(Engine):
    """A session. It has one mode: the latency and the throughput profile are the same to it. Several runs are computed
    side by side only where the configuration gives each of them some of the cores."""

    strength = "graph"

    def __init__(
        self, artifact: EngineArtifact, model: bytes, provider: Provider, configuration: Configuration
    ) -> None:
        super().__init__(artifact, at_once=side_by_side(configuration))
        self._model = model
        self._provider = provider
        self._configuration = configuration
        self._session = open_session(model, provider, configuration)
        self._threads = ThreadPoolExecutor(self.at_once) if self.at_once > 1 else None

    def layers(self) -> tuple[LayerReport, ...]:
        try:
            # Reads graphs with onnx, which whoever only runs engines does not have.
            from regiolect.engines.onnxruntime.layers import layers_of
        except ImportError as error:
            raise AttestationFailed(
                expected="the package onnx, with which the optimised graph is read",
                found=excerpt(error),
                remedy="pip install onnx",
            ) from error
        zeros = self._zeros()
        with tempfile.TemporaryDirectory(prefix="regiolect-profile-") as folder:
            try:
                session = open_session(self._model, self._provider, self._telling(), tell_into=Path(folder))
                session.run(None, zeros)
            except self._vendor_errors() as error:
                raise AttestationFailed(
                    expected=f"a profiled run on zeros of { ({name: array.shape for name, array in zeros.items()}) }",
                    found=excerpt(error),
                    remedy=remedy_for(
                        error, "state an `opt` that the model takes under `shapes` in the region's policy"
                    ),
                ) from error
            return layers_of(Path(folder) / OPTIMIZED, Path(session.end_profiling()), self._provider.name)

    def _telling(self) -> Configuration:
        """The configuration of the session that tells of its kernels: they are the same."""
        return self._configuration

    def settings(self) -> Mapping[str, str]:
        options = self._session.get_session_options()
        providers = {
            f"{provider}.{name}": str(value)
            for provider, given in self._session.get_provider_options().items()
            for name, value in given.items()
        }
        return {
            "providers": ", ".join(self._session.get_providers()),
            **providers,
            **{name: options.get_session_config_entry(name) for name in self._provider.entries},
        }

    def executed_source(self) -> str:
        return (
            f"ONNX Runtime {onnxruntime.__version__} optimised graph and profile of one run, on "
            f"{', '.join(self._session.get_providers())}: operator and element types of every kernel; how a kernel "
            "computes inside is not told"
        )

    def metadata(self) -> Mapping[str, str]:
        properties = self._session.get_modelmeta().custom_metadata_map
        return {
            key.removeprefix(METADATA_PREFIX): value
            for key, value in properties.items()
            if key.startswith(METADATA_PREFIX)
        }

    def _run(self, pieces: Sequence[Arrays]) -> Sequence[Arrays]:
        if self._threads is None or len(pieces) == 1:
            return [self._run_one(piece) for piece in pieces]
        return list(self._threads.map(self._run_one, pieces))

    def _run_one(self, piece: Arrays) -> Arrays:
        names = list(self.artifact.request.outputs)
        return dict(zip(names, self._session.run(names, dict(piece)), strict=True))

    def _zeros(self) -> dict[str, NDArray[Any]]:
        request = self.artifact.request
        rows = padded_size(1, request.profile)
        typical = {name: padded_size(profile.opt, profile) for name, profile in request.shapes.items()}
        return {
            tensor.name: np.zeros(
                [
                    rows,
                    *(typical.get(size, _PROBE_SIZE) if isinstance(size, str) else size for size in tensor.shape[1:]),
                ],
                tensor.dtype,
            )
            for tensor in request.inputs
        }

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return ERRORS

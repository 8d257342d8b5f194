from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from regiolect.contracts import BuildRequest, Configuration, EngineArtifact
from regiolect.engines.engine import Engine, excerpt
from regiolect.engines.onnxruntime.backend import OnnxRuntimeBackend
from regiolect.errors import BuildFailed, EngineLoadFailed, NotRunnableHere
from tests.tiny_graph import dense


def test_an_excerpt_is_one_short_line() -> None:
    assert excerpt(RuntimeError("a\n  b\tc")) == "a b c"
    assert excerpt("x" * 700) == "x" * 600 + "…"
    assert "RuntimeError" in excerpt(RuntimeError())


MEMORY = "FAIL : CUDA failure 2: out of memory ; GPU=0 ; expr=cudaMalloc((void**)&p, size);"


class Failing(OnnxRuntimeBackend):
    """A library that fails as `raised` says, when it builds and when it loads."""

    raised: Exception

    def __init__(self, raised: Exception) -> None:
        self.raised = raised

    def _build(self, graph: Path, request: BuildRequest, folder: Path) -> None:
        raise self.raised

    def _load(self, files: Mapping[str, bytes], artifact: EngineArtifact, configuration: Configuration) -> Engine:
        raise self.raised

    def _vendor_errors(self) -> tuple[type[Exception], ...]:
        return (RuntimeError, MemoryError)


@pytest.mark.parametrize(
    ("raised", "remedy"),
    [
        (RuntimeError(MEMORY), "free memory: end what else is using it"),
        (RuntimeError("Requested amount of GPU memory (8 bytes) could not be allocated"), "free memory"),
        (MemoryError(), "free memory"),
        (RuntimeError("CUDA failure 46: CUDA-capable device(s) is/are busy or unavailable"), "look at `nvidia-smi`"),
        (RuntimeError("node 'last' (Det) is not supported"), "replace the operator named here"),
    ],
)
def test_what_is_no_fault_of_the_graph_is_not_mended_in_the_graph(bundles, raised: Exception, remedy: str) -> None:
    request = bundles.request("eu", "cpu", "onnxruntime", dense(np.ones((16, 3), np.float32)))
    with pytest.raises(BuildFailed) as built:
        Failing(raised).build(request, bundles.store)
    assert built.value.remedy.startswith(remedy)
    artifact = OnnxRuntimeBackend().build(request, bundles.store)
    with pytest.raises(EngineLoadFailed) as loaded:
        Failing(raised).load(artifact, bundles.store)
    assert loaded.value.remedy.startswith(remedy) or (remedy.startswith("replace") and "--force" in loaded.value.remedy)


def test_an_engine_that_is_bound_to_another_machine_is_not_loaded(bundles) -> None:
    class Bound(OnnxRuntimeBackend):
        binding = frozenset({"backend", "cpu"})

    request = bundles.request("eu", "cpu", "onnxruntime", dense(np.ones((16, 3), np.float32)))
    artifact = Bound().build(request, bundles.store)
    assert Bound().load(artifact, bundles.store)
    elsewhere = artifact.model_copy(update={"fingerprint": {**artifact.fingerprint, "cpu": "AMD Opteron 244"}})
    with pytest.raises(NotRunnableHere) as refused:
        Bound().load(elsewhere, bundles.store)
    assert refused.value.expected.endswith("bound to: cpu AMD Opteron 244")
    assert refused.value.found == artifact.fingerprint["cpu"]

"""A GPU that is gone when an engine is loaded, though it was there a moment before: here there is none, for real."""

from __future__ import annotations

import numpy as np
import pytest

from regiolect.contracts import Precision
from regiolect.engines.catalog import backend
from regiolect.errors import DeviceLost
from regiolect.host.gpu import gpu
from tests.rtx import tensorrt_rtx
from tests.tiny_graph import dense

pytestmark = [
    pytest.mark.skipif(gpu() is not None, reason="there is a GPU here"),
    # ONNX Runtime says that it has no CUDA here, which is the point.
    pytest.mark.filterwarnings("ignore:Specified provider"),
]


@pytest.mark.parametrize("name", ["onnxruntime-cuda", "tensorrt-rtx"])
def test_it_is_the_device_that_is_named(name: str, bundles, monkeypatch: pytest.MonkeyPatch) -> None:
    if name == "tensorrt-rtx":
        tensorrt_rtx()
    chosen = backend(name)
    request = bundles.request("eu", "gpu", name, dense(np.ones((16, 3), np.float32)))
    artifact = chosen.build(request.model_copy(update={"precision": Precision.FP32}), bundles.store)
    monkeypatch.setattr(type(chosen), "misfits", lambda self, artifact: ())
    with pytest.raises(DeviceLost) as lost:
        chosen.load(artifact, bundles.store)
    assert lost.value.expected == "the GPU of gpu, which answered before"
    assert "nvidia-smi" in lost.value.remedy

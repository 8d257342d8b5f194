"""The list of backends. Each is named by a dotted path and imported only when it is asked for."""

from __future__ import annotations

import difflib
import functools
import importlib
from typing import TYPE_CHECKING

from regiolect.errors import UnknownBackend

if TYPE_CHECKING:
    from regiolect.engines.base import Backend

_BACKENDS = {
    "openvino": "regiolect.engines.openvino.backend:OpenVinoBackend",
    "onnxruntime": "regiolect.engines.onnxruntime.backend:OnnxRuntimeBackend",
    "onnxruntime-cuda": "regiolect.engines.onnxruntime.cuda:OnnxRuntimeCudaBackend",
    "tensorrt": "regiolect.engines.tensorrt.backend:TensorRtBackend",
    "tensorrt-rtx": "regiolect.engines.tensorrt.backend:TensorRtRtxBackend",
}


def names() -> tuple[str, ...]:
    """Every backend's name, as policies write it."""
    return tuple(_BACKENDS)


@functools.cache
def backend(name: str) -> Backend:
    """The backend of that name. Its library is not imported yet, and need not be installed.

    Raises:
        UnknownBackend: no such name.
    """
    if name not in _BACKENDS:
        near = difflib.get_close_matches(name, _BACKENDS, n=1, cutoff=0.4)
        raise UnknownBackend(
            expected=f"one of the backends {', '.join(_BACKENDS)}",
            found=repr(name),
            remedy=f"did you mean {near[0]!r}?" if near else "name one of them in the policy's targets",
        )
    module, _, attribute = _BACKENDS[name].partition(":")
    found: Backend = getattr(importlib.import_module(module), attribute)()
    return found

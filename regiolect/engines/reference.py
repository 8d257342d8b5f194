"""What runs graphs that are no engines, whatever the backends: the model as it was exported, and what observes it.

That is ONNX Runtime on the processor; whoever calibrates, compares or measures asks here and not a backend.
"""

from __future__ import annotations

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from regiolect.engines.onnxruntime.session import open_graph, session_options

LIBRARY = f"ONNX Runtime {onnxruntime.__version__}"
"""For people."""
BASIC = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
"""Of the optimizations, those that compute the same in the same types."""
NONE = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
"""None of them: node by node."""
FAILURES: tuple[type[Exception], ...] = (
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NotImplemented,
    state.RuntimeException,
    state.EPFail,
    RuntimeError,
    ValueError,
)
"""What it raises of its own accord."""
Session = onnxruntime.InferenceSession

__all__ = ["BASIC", "FAILURES", "LIBRARY", "NONE", "Session", "open_graph", "session_options"]

"""What an engine file says of its origin, and whether a graph is the one that was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from regiolect.contracts import BuildRequest
from regiolect.errors import BuildFailed


def metadata_of(request: BuildRequest) -> dict[str, str]:
    """What an engine file itself says of its origin, in the place that its format has for that."""
    return {
        "model": request.model,
        "region": request.region,
        "target": request.target.name,
        "precision": request.precision.value,
        "policy": request.policy,
        "build_key": request.build_key,
    }


def require_interface(request: BuildRequest, inputs: Sequence[str], outputs: Sequence[str]) -> None:
    """Raises BuildFailed unless a graph's inputs and outputs are those of the request."""
    wanted = ([tensor.name for tensor in request.inputs], list(request.outputs))
    if sorted(wanted[0]) != sorted(inputs) or sorted(wanted[1]) != sorted(outputs):
        raise BuildFailed(
            expected=f"a graph of {request.model!r} with inputs {wanted[0]} and outputs {wanted[1]}",
            found=f"inputs {list(inputs)} and outputs {list(outputs)}",
            remedy="name in the ModelSpec the inputs and outputs that the ONNX graph has",
        )

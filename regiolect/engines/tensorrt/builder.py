"""Build a TensorRT-RTX plan. Needs neither a GPU nor a driver."""

from __future__ import annotations

from pathlib import Path

import tensorrt_rtx as trt

from regiolect.contracts import BuildRequest
from regiolect.engines.base import metadata_of, require_interface
from regiolect.engines.engine import excerpt
from regiolect.engines.tensorrt.recipe import COMPUTE_CAPABILITIES
from regiolect.errors import BuildFailed
from regiolect.integrity import canonical_json


class _Errors(trt.ILogger):  # type: ignore[misc]  # the vendor ships no types
    """Keeps what TensorRT reports as an error instead of printing it."""

    def __init__(self) -> None:
        trt.ILogger.__init__(self)
        self.messages: list[str] = []

    def log(self, severity: trt.ILogger.Severity, message: str) -> None:
        if severity in (trt.ILogger.Severity.ERROR, trt.ILogger.Severity.INTERNAL_ERROR):
            self.messages.append(message)


def build(graph: Path, request: BuildRequest, folder: Path) -> None:
    """Write engine.plan into `folder`: strongly typed, one optimization profile, its origin as JSON in its name.

    Raises:
        BuildFailed: the parser or the builder refused the graph.
    """
    errors = _Errors()
    builder = trt.Builder(errors)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, errors)
    if not parser.parse(graph.read_bytes()):
        raise _refused_by(parser, request)
    require_interface(
        request,
        [network.get_input(i).name for i in range(network.num_inputs)],
        [network.get_output(i).name for i in range(network.num_outputs)],
    )
    network.name = canonical_json(metadata_of(request)).decode()
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    config.add_optimization_profile(_profile(builder, request))
    capabilities = COMPUTE_CAPABILITIES[request.precision]
    config.num_compute_capabilities = len(capabilities)
    for index, name in enumerate(capabilities):
        config.set_compute_capability(getattr(trt.ComputeCapability, name), index)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BuildFailed(
            expected=f"a {request.precision} graph of {request.model!r} that builds for {', '.join(capabilities)}",
            found=excerpt(" ".join(errors.messages)),
            remedy="replace the operator named here in the model, or name another backend in the policy's targets",
        )
    (folder / "engine.plan").write_bytes(plan)


def _profile(builder: trt.Builder, request: BuildRequest) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    for tensor in request.inputs:
        ranges = [
            request.profile,
            *(request.shapes[size] if isinstance(size, str) else None for size in tensor.shape[1:]),
        ]
        bounds = [
            (size, size, size) if each is None else (each.min, each.opt, each.max)
            for size, each in zip(tensor.shape, ranges, strict=True)
        ]
        profile.set_shape(tensor.name, *zip(*bounds, strict=True))
    return profile


def _refused_by(parser: trt.OnnxParser, request: BuildRequest) -> BuildFailed:
    first = parser.get_error(0)
    where = f"node {first.node_name()!r} ({first.node_operator()}): " if first.node_name() else ""
    return BuildFailed(
        expected=f"a graph of {request.model!r} ({request.precision}) that TensorRT-RTX {trt.__version__} parses",
        found=f"{where}{excerpt(first.desc())}",
        remedy="write the graph by this backend's own recipe, or replace that operator in the model",
    )

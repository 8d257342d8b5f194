"""Build a plan of either flavour from a typed graph."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from regiolect.contracts import BuildRequest
from regiolect.engines.base import REPLACE
from regiolect.engines.engine import excerpt, remedy_for
from regiolect.engines.origin import require_interface
from regiolect.engines.tensorrt.library import Flavour, Library, Messages, Progress, RefitRefused, let_go, sizes
from regiolect.engines.tensorrt.listeners import logger_of, monitor_of
from regiolect.errors import BuildFailed
from regiolect.integrity import canonical_json
from regiolect.progress import note

if TYPE_CHECKING:
    from collections.abc import Mapping

    import tensorrt as trt

End = Literal["min", "max"]

_MIB = 2**20
# Parser errors that are told; the others mostly follow from the first.
_TOLD = 3
# TensorRT's own words for a limit on memory that leaves a layer without any kernel.
_OF_MEMORY = ("workspace", "memory pool", "scratch")


def build(graph: Path, request: BuildRequest, folder: Path, flavour: Flavour, origin: Mapping[str, str]) -> None:
    """Write engine.plan into `folder`: strongly typed, one optimization profile, its origin as JSON in its name.

    Args:
        origin: what the plan is to say of itself.

    Raises:
        BuildFailed: the parser or the builder refused the graph, or the policy's profile.
        One of `ERRORS`: CUDA or TensorRT failed.
        BaseException: whatever interrupted the thread meanwhile; the builder was stopped.
    """
    messages = Messages()
    with messages.heard(), let_go():
        (folder / "engine.plan").write_bytes(_plan(graph, request, flavour, origin, messages))


def _plan(graph: Path, request: BuildRequest, flavour: Flavour, origin: Mapping[str, str], messages: Messages) -> bytes:
    library = flavour.library
    logger = logger_of(library, messages)
    builder = library.Builder(logger)
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    data = graph.read_bytes()
    if not parser.parse(data):
        raise _refused_by(parser, request, flavour)
    require_interface(
        request,
        [network.get_input(place).name for place in range(network.num_inputs)],
        [network.get_output(place).name for place in range(network.num_outputs)],
    )
    network.name = canonical_json(dict(origin)).decode()
    config = builder.create_builder_config()
    # TensorRT sets TF32 by itself. An FP32 policy means FP32 unless it says otherwise.
    (config.set_flag if request.tf32 else config.clear_flag)(library.BuilderFlag.TF32)
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    options = flavour.options(request)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
    if options.max_aux_streams is not None:
        config.max_aux_streams = options.max_aux_streams
    profile = _profile(library, builder, network, request)
    _require_within(library, builder, logger, data, request, "min")
    _require_within(library, builder, logger, data, request, "max")
    if config.add_optimization_profile(profile) < 0:
        raise _refused_profile(request, messages.told())
    progress = Progress(f"{request.region} {request.target.name} {request.precision}: building", note)
    config.progress_monitor = monitor_of(library, progress)
    try:
        plan = progress.run(lambda: flavour.make(builder, network, config, data, request))
    except RefitRefused as error:
        remedy = f"remove `options.refittable` of target {request.target.name!r}: its plans are built anew then"
        raise _refused(request, f"{error}: {messages.told()}", flavour, None, remedy) from error
    if plan is None:
        raise _refused(request, messages.told(), flavour, options.workspace_mib)
    return plan


def _profile(
    library: Library, builder: trt.Builder, network: trt.INetworkDefinition, request: BuildRequest
) -> trt.IOptimizationProfile:
    profile = builder.create_optimization_profile()
    parsed = {network.get_input(place).name: network.get_input(place) for place in range(network.num_inputs)}
    for tensor in request.inputs:
        ranges = [
            request.profile,
            *(request.shapes[size] if isinstance(size, str) else None for size in tensor.shape[1:]),
        ]
        bounds = [
            (size, size, size) if each is None else (each.min, each.opt, each.max)
            for size, each in zip(tensor.shape, ranges, strict=True)
        ]
        for name, size, bound in zip(tensor.shape, sizes(parsed[tensor.name].shape), bounds, strict=True):
            # A dimension that the graph leaves open is -1 here.
            if size >= 0 and {size} != set(bound):
                raise BuildFailed(
                    expected=f"a profile within what {request.model!r} takes: {name!r} of input {tensor.name!r} is "
                    f"always {size}",
                    found=f"{bound[0]} to {bound[2]} in the policy of {request.region!r}",
                    remedy="export the model with that dimension left open, or state this one size in the policy",
                )
        smallest, best, largest = (library.Dims(list(each)) for each in zip(*bounds, strict=True))
        profile.set_shape(tensor.name, smallest, best, largest)
    return profile


def _require_within(
    library: Library, builder: trt.Builder, logger: trt.ILogger, graph: bytes, request: BuildRequest, end: End
) -> None:
    """Raises BuildFailed if the graph makes no sense at one end of the profile.

    TensorRT builds a plan for such a profile and fails when it is run; given these very sizes, its parser says why.
    """
    import onnx

    model = onnx.load_model_from_string(graph)
    stated = {"batch": int(getattr(request.profile, end))}
    specs = {tensor.name: tensor for tensor in request.inputs}
    for value in model.graph.input:
        dimensions = value.type.tensor_type.shape.dim
        for axis, (dimension, name) in enumerate(zip(dimensions, specs[value.name].shape, strict=True)):
            if not dimension.HasField("dim_value") and isinstance(name, str):
                size = int(getattr(request.profile if axis == 0 else request.shapes[name], end))
                stated["batch" if axis == 0 else name] = dimension.dim_value = size
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        error = parser.get_error(0)
        raise BuildFailed(
            expected=f"{request.model!r} to take every size of its profile; {end} is "
            + ", ".join(f"{name} {size}" for name, size in stated.items()),
            found=f"node {error.node_name()!r} ({error.node_operator()}): {excerpt(error.desc(), 300)}",
            remedy=f"state another `{end}` of {' or '.join(f'shapes.{name}' for name in request.shapes) or 'batch'} in "
            f"the policy of {request.region!r}",
        )


def _refused_by(parser: trt.OnnxParser, request: BuildRequest, flavour: Flavour) -> BuildFailed:
    errors = [parser.get_error(place) for place in range(min(parser.num_errors, _TOLD))]
    messages = [
        (f"node {error.node_name()!r} ({error.node_operator()}): " if error.node_operator() else "")
        + excerpt(error.desc(), 300)
        for error in errors
    ]
    operators = ", ".join(dict.fromkeys(error.node_operator() for error in errors if error.node_operator()))
    return BuildFailed(
        expected=f"a graph of {request.model!r} ({request.precision}) that {flavour.title} {flavour.version} parses",
        found="; ".join(messages) or "no message",
        remedy=f"replace {operators or 'that operator'} in the model, or name another backend in the policy's targets",
    )


def _refused_profile(request: BuildRequest, message: str) -> BuildFailed:
    return BuildFailed(
        expected=f"a profile that {request.model!r} can be built for",
        found=message,
        remedy=f"mend `batch` and `shapes` in the policy of {request.region!r}: min <= opt <= max, all of them sizes "
        "that the model takes",
    )


def _refused(
    request: BuildRequest, message: str, flavour: Flavour, workspace: int | None, otherwise: str = REPLACE
) -> BuildFailed:
    remedy = remedy_for(message, otherwise)
    if workspace is not None and any(word in message.lower() for word in _OF_MEMORY):
        remedy = f"raise or remove `options.workspace_mib` of target {request.target.name!r}, which is {workspace}"
    return BuildFailed(
        expected=f"a {request.precision} graph of {request.model!r} that {flavour.title} "
        f"{flavour.version} builds for {request.target.name!r}",
        found=message,
        remedy=remedy,
    )

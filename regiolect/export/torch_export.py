"""A torch module turned into ONNX by PyTorch's current exporter."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from onnx import ModelProto

from regiolect.errors import ExportFailed, InvalidModelSpec, RegiolectError
from regiolect.export.cleanup import OPSET, quiet, set_interface, strip
from regiolect.export.parity import Batch, Runner, last_line
from regiolect.host.processors import processors
from regiolect.model import ModelSpec


def load_module(spec: ModelSpec) -> torch.nn.Module:
    """Call the spec's loader.

    Raises:
        ExportFailed: the loader fails, or some part of the module is in training mode.
        InvalidModelSpec: it returns something else than a module, or inputs are not in the order of `forward`.
    """
    if isinstance(spec.loader, Path):
        raise InvalidModelSpec(
            expected=f"a loader function in the spec of {spec.name!r}",
            found=f"the file {spec.loader}",
            remedy="export .onnx files with regiolect.export.onnx_file",
        )
    with _users_code(spec, "its loader to return the module", "repair the loader; it must run without arguments"):
        module = spec.loader()
    if not isinstance(module, torch.nn.Module):
        raise InvalidModelSpec(
            expected=f"a torch.nn.Module from the loader of {spec.name!r}",
            found=type(module).__name__,
            remedy="return the module itself, with its weights loaded and in eval mode",
        )
    training = [name or "the module itself" for name, part in module.named_modules() if part.training]
    if training:
        raise ExportFailed(
            expected=f"the module of {spec.name!r} in eval mode",
            found=f"{len(training)} parts in training mode, the first is {training[0]}",
            remedy="end the loader with `return module.eval()`",
        )
    _refuse_swapped_inputs(spec, module)
    return module


def _refuse_swapped_inputs(spec: ModelSpec, module: torch.nn.Module) -> None:
    parameters = list(inspect.signature(module.forward).parameters)
    names = [tensor.name for tensor in spec.inputs]
    places = [parameters.index(name) for name in names if name in parameters]
    if places != sorted(places):
        raise InvalidModelSpec(
            expected=f"the inputs of {spec.name!r} in the order of forward({', '.join(parameters)})",
            found=", ".join(names),
            remedy="put `inputs` of the ModelSpec into that order",
        )


def to_onnx(spec: ModelSpec, module: torch.nn.Module, batch: Batch) -> ModelProto:
    """Export the module, unoptimised, with the spec's names and symbolic dimensions; nothing local is left in it.

    Args:
        spec: names, dtypes and shapes.
        module: in eval mode, on the CPU.
        batch: real samples; the first two (or one, twice) are traced.

    Raises:
        ExportFailed: the module cannot be traced, or its outputs are not those of the spec.
        InvalidModelSpec: a dimension that the spec calls symbolic is fixed in the module.
    """
    arguments = tuple(torch.from_numpy(array) for array in batch.rows((0, min(1, len(batch.ids) - 1))).values())
    dynamic = tuple(
        {axis: extent for axis, extent in enumerate(tensor.shape) if isinstance(extent, str)} for tensor in spec.inputs
    )
    remedy = (
        "make forward() traceable: no Python `if` or loop on tensor values (use torch.where), no fixed batch size; "
        "or export an .onnx file yourself and give its path as `loader`"
    )
    count = len(runner(spec, module)(batch.rows((0,))))
    with _users_code(spec, "torch.onnx.export to translate the module", remedy), torch.no_grad(), quiet():
        program = torch.onnx.export(
            module,
            arguments,
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=list(spec.outputs),
            opset_version=OPSET,
            dynamo=True,
            dynamic_shapes=dynamic,
            external_data=False,
            # Off, so that our own clean-up sees the whole graph and counts what it takes out.
            optimize=False,
            verbose=False,
        )
    if program is None or count != len(program.model_proto.graph.output):
        raise ExportFailed(expected=f"{count} outputs in the graph of {spec.name!r}", found="others", remedy=remedy)
    model: ModelProto = program.model_proto
    set_interface(spec, model)
    strip(model)
    return model


def runner(spec: ModelSpec, module: torch.nn.Module) -> Runner:
    """Run the module on numpy arrays, without gradients, leaving torch's random state as it was.

    Raises:
        ExportFailed: the module fails, or returns something else than the spec's outputs (raised by the runner).
    """
    remedy = "call the module by hand on one of the calibration samples, and compare its outputs with the ModelSpec"

    def run(inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        arguments = [torch.from_numpy(inputs[tensor.name]) for tensor in spec.inputs]
        with _users_code(spec, "its module to run on real samples", remedy), torch.no_grad():
            returned = module(*arguments)
        outputs = list(_flat(spec, returned))
        if len(outputs) != len(spec.outputs):
            raise ExportFailed(
                expected=f"{len(spec.outputs)} outputs of {spec.name!r}: {', '.join(spec.outputs)}",
                found=f"{len(outputs)} tensors from the module",
                remedy="name every output in the ModelSpec, in the order in which forward() returns them",
            )
        return [output.detach().cpu().numpy() for output in outputs]

    return run


def _flat(spec: ModelSpec, returned: object) -> Iterator[torch.Tensor]:
    if isinstance(returned, torch.Tensor):
        yield returned
    elif isinstance(returned, Mapping):
        if set(returned) == set(spec.outputs) and tuple(returned) != spec.outputs:
            raise ExportFailed(
                expected=f"the outputs of {spec.name!r} in the module's order: {', '.join(map(str, returned))}",
                found=", ".join(spec.outputs),
                remedy="put `outputs` of the ModelSpec into that order",
            )
        for value in returned.values():
            yield from _flat(spec, value)
    elif isinstance(returned, Sequence) and not isinstance(returned, str):
        for value in returned:
            yield from _flat(spec, value)
    else:
        raise ExportFailed(
            expected=f"tensors from the module of {spec.name!r}",
            found=type(returned).__name__,
            remedy="return a tensor, or a tuple or dict of tensors",
        )


@contextmanager
def _users_code(spec: ModelSpec, expected: str, remedy: str) -> Iterator[None]:
    """Turn whatever a user's module raises into ExportFailed; keep torch's random state and number of threads.

    It takes no more threads than the process has processors: torch asks for the machine's, or for the affinity alone.
    """
    threads = torch.get_num_threads()
    try:
        with torch.random.fork_rng(devices=[]):
            torch.set_num_threads(min(threads, processors()))
            yield
    except RegiolectError:
        raise
    except Exception as error:
        # A user's module, and torch tracing it, may raise anything; it is named and passed on, not dropped.
        root = error.__cause__ or error
        raise ExportFailed(expected=f"{expected} ({spec.name!r})", found=_cause(root), remedy=remedy) from error
    finally:
        torch.set_num_threads(threads)


def _cause(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # torch ends its errors with advice for its own developers; what went wrong stands in their first line.
    first = f"{type(error).__name__}: {lines[0][:300]}" if lines else type(error).__name__
    return first if len(lines) < 2 else f"{first} (last line: {last_line(error).partition(': ')[2][:200]})"

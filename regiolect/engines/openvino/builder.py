"""Build an OpenVINO engine: the typed graph as IR, with every varying size bounded and its origin in `rt_info`."""

from __future__ import annotations

import re
from pathlib import Path

import openvino
from openvino.frontend import FrontEndManager

from regiolect.contracts import BuildRequest
from regiolect.engines.openvino.runtime import RT_INFO
from regiolect.engines.origin import metadata_of, require_interface


def build(graph: Path, request: BuildRequest, folder: Path) -> None:
    """Write engine.xml and engine.bin into `folder`; weights keep the types of the graph.

    Raises:
        BuildFailed: the graph's inputs or outputs are not the request's.
        One of `runtime.ERRORS`: OpenVINO does not read the graph; the message lists the operators.
    """
    # Core.read_model would try every front end on a file whose name tells nothing, each with noise of its own.
    reader = FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(graph)))
    require_interface(
        request,
        [port.get_any_name() for port in model.inputs],
        [port.get_any_name() for port in model.outputs],
    )
    model.reshape(
        {
            tensor.name: openvino.PartialShape(
                [
                    openvino.Dimension(request.profile.min, request.profile.max),
                    *(
                        openvino.Dimension(request.shapes[size].min, request.shapes[size].max)
                        if isinstance(size, str)
                        else size
                        for size in tensor.shape[1:]
                    ),
                ]
            )
            for tensor in request.inputs
        }
    )
    _name_alike(model)
    for key, value in metadata_of(request).items():
        model.set_rt_info(value, [RT_INFO, key])
    openvino.save_model(model, folder / "engine.xml", compress_to_fp16=False)


def _name_alike(model: openvino.Model) -> None:
    # Operators that the reader makes up are named after a counter of the whole process (ShapeOf_398), so that the same
    # graph would give another file each time. They are named after their place in the graph instead. They carry no
    # tensor names; what stems from a node of the ONNX graph does, and keeps its name.
    for place, operator in enumerate(model.get_ordered_ops()):
        made_up = re.fullmatch(r"(\w+)_\d+", operator.get_friendly_name())
        if made_up and not any(port.get_names() for port in operator.outputs()):
            operator.set_friendly_name(f"regiolect/{made_up[1]}_{place}")

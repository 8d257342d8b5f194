"""The list of backends: Regiolect's own, one line each, and those that other distributions bring.

Another distribution names its backends as entry points of the group `regiolect.backends`, in its pyproject.toml:

    [project.entry-points."regiolect.backends"]
    toy = "my_package.backend:ToyBackend"
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from regiolect.errors import BackendUnavailable

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# By dotted path, imported only when it is asked for. The first is the one where none is named.
OWN: Mapping[str, str] = {
    "openvino": "regiolect.engines.openvino.backend:OpenVinoBackend",
    "onnxruntime": "regiolect.engines.onnxruntime.backend:OnnxRuntimeBackend",
    "onnxruntime-cuda": "regiolect.engines.onnxruntime.cuda:OnnxRuntimeCudaBackend",
    "tensorrt": "regiolect.engines.tensorrt.backend:TensorRtBackend",
    "tensorrt-rtx": "regiolect.engines.tensorrt.backend:TensorRtRtxBackend",
}
DEFAULT = next(iter(OWN))
"""The backend where none is named."""
REFERENCE = "onnxruntime"
"""The extra that brings what runs graphs that are no engines (`regiolect.engines.reference`): a release needs it."""
GROUP = "regiolect.backends"


def names() -> tuple[str, ...]:
    """Every backend's name, as policies write it. One that another distribution brings has no name of OWN."""
    return (*OWN, *(name for name in sorted(_brought()) if name not in OWN))


def class_of(name: str) -> type[Any]:
    """The class of a backend out of `names`.

    Raises:
        BackendUnavailable: another distribution brings it, and it cannot be imported or has another name; or two bring
            one of that name.
    """
    if name in OWN:
        module, _, attribute = OWN[name].partition(":")
        own: type[Any] = getattr(importlib.import_module(module), attribute)
        return own
    points = _brought()[name]
    carriers = [getattr(point.dist, "name", point.value) for point in points]
    if len(points) > 1:
        raise BackendUnavailable(
            expected=f"one backend of the name {name!r}",
            found=f"one of each of the distributions {', '.join(carriers)}",
            remedy=f"pip uninstall {carriers[-1]}, or another of them",
        )
    try:
        kind: type[Any] = points[0].load()
    except (ImportError, AttributeError, OSError, SyntaxError) as error:
        raise BackendUnavailable(
            expected=f"the backend {name!r} at {points[0].value}, as the distribution {carriers[0]} says",
            found=f"{error} ({type(error).__name__})",
            remedy=f"install a {carriers[0]} that fits this version of Regiolect, or pip uninstall {carriers[0]}",
        ) from error
    if getattr(kind, "name", None) != name:
        raise BackendUnavailable(
            expected=f"a subclass of regiolect.engines.base.Backend whose `name` is {name!r}, at {points[0].value}",
            found=f"{kind!r} with the name {getattr(kind, 'name', None)!r}",
            remedy=f"mend the entry point {name!r} of the distribution {carriers[0]}, or `name` of its class",
        )
    return kind


def anywhere(besides: str = "") -> tuple[str, ...]:
    """Backends whose engines need no device of their own, but for `besides`: every machine with their library runs
    them."""
    usable = []
    for name in names():
        # What cannot be used is no advice.
        with suppress(BackendUnavailable):
            if name != besides and getattr(class_of(name), "anywhere", False):
                usable.append(name)
    return tuple(usable)


def elsewhere(besides: str = "") -> str:
    """What a policy may do where a target's engines do not run, for people."""
    return f"name the backend {' or '.join(anywhere(besides))} in the policy's targets"


def brought_by(name: str) -> Mapping[str, str]:
    """The distribution and version that bring a backend, as an entry of its fingerprint: engines may depend on its code
    as well as on the vendor's. Empty for one of OWN, whose code is Regiolect's."""
    distributions = [
        f"{point.dist.name} {point.dist.version}" for point in _brought().get(name, ()) if point.dist is not None
    ]
    return {"brought by": ", ".join(distributions)} if distributions and name not in OWN else {}


@functools.cache
def _brought() -> Mapping[str, tuple[EntryPoint, ...]]:
    """Entry points by name. Finding them reads the metadata of every installed package."""
    # Slow to import, and a command's help names the default alone.
    from importlib.metadata import entry_points

    points: dict[str, tuple[EntryPoint, ...]] = {}
    for point in entry_points(group=GROUP):
        points[point.name] = (*points.get(point.name, ()), point)
    return points

"""How a ModelSpec is found by its address, and what address one has."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from regiolect.errors import ChangedMeanwhile, InvalidModelSpec, RegiolectError, UnknownModel
from regiolect.errors.output import printable_repr
from regiolect.model import ModelSpec
from regiolect.scoped_cache import once
from regiolect.settings import project_folder


def load_model_spec(address: str) -> ModelSpec:
    """Find a ModelSpec by `package.module:NAME`, or by the name of a `regiolect.models` entry point.

    The working directory is searched first, as `python -m` does, then the folder of the project's file.

    Raises:
        UnknownModel: nothing has that name.
        InvalidModelSpec: something has, but it is no ModelSpec.
    """
    for folder in filter(None, (project_folder(), Path.cwd())):
        if str(folder) not in sys.path:
            sys.path.insert(0, str(folder))
    module_name, attribute = _parts(address)
    module = _import(address, module_name)
    spec = getattr(module, attribute, None)
    if spec is None:
        specs = [name for name, value in vars(module).items() if isinstance(value, ModelSpec)]
        raise UnknownModel(
            expected=f"{attribute!r} in {module.__name__}",
            found=f"ModelSpecs named {', '.join(specs)}" if specs else "no ModelSpec in that module",
            remedy=f"name one: {module_name}:{specs[0]}" if specs else "define MODEL = ModelSpec(...) there",
        )
    if not isinstance(spec, ModelSpec):
        raise InvalidModelSpec(
            expected=f"a regiolect.ModelSpec at {address!r}",
            found=type(spec).__name__,
            remedy="name the ModelSpec object itself, as in `examples.fashion:MODEL`",
        )
    return spec


def address_of(spec: ModelSpec) -> str:
    """The address under which other processes find a ModelSpec of this one.

    Raises:
        InvalidModelSpec: no module that can be imported holds it.
    """
    for name, module in sorted(sys.modules.copy().items(), key=lambda item: (item[0].count("."), item[0])):
        if name != "__main__" and getattr(module, "__spec__", None) is not None:
            for attribute, value in tuple(vars(module).items()):
                if value is spec:
                    return f"{name}:{attribute}"
    raise InvalidModelSpec(
        expected=f"the ModelSpec {spec.name!r} in a module, from where other processes import it as well",
        found="one that only this script, notebook or function holds",
        remedy="write it into a file, models.py for one, and name it there: regiolect.run('models:MODEL')",
    )


def address_given(model: ModelSpec | str) -> str:
    """The address of a model that was given from Python, by itself or by its address.

    Raises:
        UnknownModel: it is neither.
        InvalidModelSpec, ChangedMeanwhile: as `address_of` and `require_current`.
    """
    address = address_of(model) if isinstance(model, ModelSpec) else model
    if not isinstance(address, str):
        raise UnknownModel(
            expected="a ModelSpec, its address package.module:NAME, or the name of an entry point",
            found=f"{printable_repr(model)}, of type {type(model).__name__}",
            remedy="write a ModelSpec into a file, models.py for one, and name it: regiolect.plan('models:MODEL')",
        )
    require_current(address)
    return address


def require_current(address: str) -> None:
    """Refuse a model that this process imported from files that say something else by now.

    Python does not import a module twice: what would run is the old code, and its digest would be the new one's.

    Raises:
        ChangedMeanwhile: one of its files is newer than what was imported from it.
    """
    module_name, attribute = _parts(address)
    module = sys.modules.get(module_name)
    spec, file = getattr(module, attribute, None), getattr(module, "__file__", None)
    outdated = spec.outdated(*([Path(file)] if file else [])) if isinstance(spec, ModelSpec) else ()
    if outdated:
        raise ChangedMeanwhile(
            expected=f"the code of {address!r} as this process imported it",
            found=f"{', '.join(outdated)} changed since",
            remedy="restart the notebook's kernel, or this process, which imports it anew",
        )


def _parts(address: str) -> tuple[str, str]:
    """The module that an address leads to, and the name there."""
    module, _, name = (address if ":" in address else _installed().get(address, address)).partition(":")
    return module, name or "MODEL"


def _installed() -> dict[str, str]:
    """Where each entry point leads. Finding them reads the metadata of every installed package."""
    return once("entry points", lambda: {point.name: point.value for point in entry_points(group="regiolect.models")})


def _import(address: str, module_name: str) -> ModuleType:
    try:
        # With a dot before it a name is relative to a package, and here there is none.
        named = bool(module_name) and not module_name.startswith(".")
        exists = named and importlib.util.find_spec(module_name) is not None
    except (ModuleNotFoundError, ValueError):
        exists = False
    if not exists:
        raise UnknownModel(
            expected=f"a ModelSpec at {address!r} (package.module:NAME, or an entry point)",
            found=f"no module {module_name!r}; entry points: {', '.join(sorted(_installed())) or 'none'}",
            remedy="check the spelling, run from the folder that holds the package, or install the package",
        )
    try:
        return importlib.import_module(module_name)
    except RegiolectError:
        raise
    # The module is the user's: whatever it raises is told with its name, and kept as the cause.
    except Exception as error:
        raise InvalidModelSpec(
            expected=f"to import {module_name!r}",
            found=f"{type(error).__name__}: {error}{_line(error)}",
            remedy=f'mend it until this works: python -c "import {module_name}"',
        ) from error


def _line(error: Exception) -> str:
    """` (models.py, line 12)`, of the module that failed, were it one that the model's imports. Python tells those of a
    SyntaxError itself."""
    modules = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.name == "<module>"]
    if not modules or isinstance(error, SyntaxError):
        return ""
    return f" ({Path(modules[-1].filename).name}, line {modules[-1].lineno})"

"""How the parts of Regiolect import each other; import-linter checks the order of its layers (`make lint`)."""

from __future__ import annotations

from collections.abc import Mapping
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

import regiolect

# `__init__`, which each name below the package stands beside, is no name of its own.
MOST_MODULES = 14
MOST_FOLDERS = 26


@pytest.fixture(scope="module")
def imports() -> Mapping[str, set[str]]:
    """Of each module of Regiolect, the modules of Regiolect that it imports, wherever in the file."""
    graph = grimp.build_graph("regiolect", cache_dir=None)
    return {module: set(graph.find_modules_directly_imported_by(module)) for module in graph.modules}


def name_of(module: str) -> str:
    """The name directly in `regiolect/` that a module is, or lies under."""
    return ".".join(module.split(".")[:2])


def test_no_files_import_each_other_in_a_circle(imports: Mapping[str, set[str]]) -> None:
    # A circle is raised, with the files that make it. The package itself imports what it offers when it is asked for.
    TopologicalSorter({module: others - {"regiolect"} for module, others in imports.items()}).prepare()


def test_no_packages_import_each_other_in_a_ring(imports: Mapping[str, set[str]]) -> None:
    packages: dict[str, set[str]] = {}
    for module, imported in imports.items():
        packages.setdefault(name_of(module), set()).update(map(name_of, imported))
    # Whoever asks for `regiolect.__version__` imports the package itself.
    rings = {name: others - {name, "regiolect"} for name, others in packages.items() if name != "regiolect"}
    TopologicalSorter(rings).prepare()


def test_a_reader_finds_few_names_directly_in_the_package() -> None:
    folder = Path(regiolect.__file__).parent
    modules = [path.stem for path in folder.glob("*.py") if path.stem != "__init__"]
    folders = [path.parent.name for path in folder.glob("*/__init__.py")]
    assert len(modules) <= MOST_MODULES, modules
    assert len(folders) <= MOST_FOLDERS, folders


# Those that take turns between work and timing do so within themselves; all others are called by `stages`.
STAGES = {
    "data_checks.stage",
    "regiolect.evaluate.evaluate",
    "regiolect.release.stages",
    "regiolect.repair.region",
    "regiolect.repair.selection",
    "regiolect.study.run",
    "regiolect.tune.region",
    "regiolect.tune.run",
}


def test_the_machine_is_taken_by_stages_alone() -> None:
    graph = grimp.build_graph("regiolect", "data_checks", "flows", "tasks", cache_dir=None)
    # Settings offer how long that may take.
    assert graph.find_modules_that_directly_import("regiolect.host.lock") - {"regiolect.settings"} == STAGES

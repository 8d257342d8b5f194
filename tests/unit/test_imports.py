"""Light to import, and of use without its extras: in this environment, and in a bare one with the core alone."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
HEAVY = ("great_expectations", "jinja2", "mlflow", "onnx", "onnxruntime", "openvino", "prefect", "scipy", "torch")
# They take longer to import than Python itself, and nothing that is answered at once needs them.
SLOW = ("numpy", "pydantic", "rich")
LOADED = f"import sys; print(sorted(set({HEAVY!r}) & set(sys.modules)))"
LOADED_AT_ALL = f"sorted(set({HEAVY + SLOW!r}) & set(sys.modules))"
Said = subprocess.CompletedProcess[str]


def said(python: Path, *arguments: str, cwd: Path = ROOT, **variables: str) -> Said:
    # Nothing of what other tests in this process have set.
    others = ("MLFLOW_", "PREFECT_", "PYTHON", "REGIOLECT_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(others)}
    return subprocess.run(
        [str(python), *arguments],
        cwd=cwd,
        env=inherited | variables,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import regiolect",
        "import regiolect.cli.app",
        "from regiolect import contracts, data, errors, model, planning, policy, precision, settings, storage",
        "import regiolect.engines.catalog as c; [c.backend(name) for name in c.names()]",
        "import regiolect.serving.preflight",
        "from regiolect import load, plan, run",
        "import regiolect.serving; assert callable(regiolect.serving._load_pyfunc), 'as MLflow calls it'",
        "import regiolect.registry",
        "import regiolect.cli.tables, regiolect.report",
    ],
)
def test_an_import_loads_nothing_heavy(statement: str) -> None:
    done = said(Path(sys.executable), "-c", f"{statement}; {LOADED}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "statement",
    [
        "import regiolect; assert {'load', 'plan', 'run'} <= set(dir(regiolect))",
        "import sys, regiolect.cli as c; sys.argv[1:] = ['--help']; sys.stdout = sys.stderr; c.main()",
    ],
)
def test_what_is_asked_every_day_is_answered_at_once(statement: str) -> None:
    at_the_end = f"import atexit, sys; atexit.register(lambda: print({LOADED_AT_ALL}, file=sys.__stdout__))"
    done = said(Path(sys.executable), "-c", f"{at_the_end}; {statement}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_the_package_offers_what_it_names_and_nothing_else() -> None:
    imported = "from regiolect import load, plan, run"
    answer = "print(load.__module__, plan.__module__, run.__module__)"
    assert said(Path(sys.executable), "-c", f"{imported}; {answer}").stdout == (
        "regiolect.serving.registered regiolect.orchestrator regiolect.orchestrator\n"
    )
    missing = said(Path(sys.executable), "-c", "from regiolect import realease")
    assert "ImportError: cannot import name 'realease' from 'regiolect'" in missing.stderr


# ------------------------------------------------------------------------------------------- a bare environment


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The scripts of a virtual environment into which `pip install .` put the core and nothing else."""
    folder = tmp_path_factory.mktemp("bare")
    # By the pip of this environment: to install another one takes longer than all the rest.
    venv.create(folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    install = ("--python", str(scripts / "python"), "install", "--quiet", "--disable-pip-version-check", "--no-compile")
    done = said(Path(sys.executable), "-m", "pip", *install, "--constraint", "constraints.txt", ".")
    assert done.returncode == 0, done.stderr
    return scripts


@pytest.fixture
def workshop(tmp_path: Path) -> Workshop:
    made = Workshop(tmp_path)
    made.model.write_bytes(b"a model that nobody reads here")
    made.add("north")
    return made


def test_the_core_imports_from_the_installed_package_without_its_extras(bare: Path, tmp_path: Path) -> None:
    done = said(bare / "python", "-c", f"import regiolect; print(regiolect.__file__); {LOADED}", cwd=tmp_path)
    where, loaded = done.stdout.splitlines()
    assert Path(where).is_relative_to(bare.parent)
    assert loaded == "[]"
    missing = said(bare / "python", "-c", "import prefect", cwd=tmp_path)
    assert missing.returncode != 0, "else this environment is not bare"


@pytest.mark.parametrize("command", [("--help",), ("--version",), ("policies", "list"), ("policies", "validate")])
def test_commands_that_need_no_extras_work_without_them(bare: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = said(bare / "regiolect", *command, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_the_built_in_policies_travel_with_the_package(bare: Path, tmp_path: Path) -> None:
    done = said(bare / "regiolect", "policies", "show", "de", cwd=tmp_path)
    assert "precision: FP32" in done.stdout
    assert "extends eu" in done.stdout


def test_what_init_writes_travels_with_the_package(bare: Path, tmp_path: Path) -> None:
    texts = "from regiolect.cli.scaffold import example, write; from pathlib import Path"
    done = said(bare / "python", "-c", f"{texts}; print(len(write(Path('shop'), example(Path('shop')))))", cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("6\n", "")
    assert (tmp_path / "shop" / "policies" / "schema.json").is_file()
    done = said(bare / "regiolect", "init", "other", cwd=tmp_path)
    assert "pip install 'regiolect[release]'" in done.stderr
    assert not (tmp_path / "other").exists()


def test_plan_says_which_extra_a_regions_backend_needs(bare: Path, workshop: Workshop) -> None:
    places = {"REGIOLECT_HOME": str(workshop.folder / "home"), "REGIOLECT_POLICIES": str(workshop.policies)}
    done = said(bare / "regiolect", "plan", ADDRESS, **places, **{WORKSHOP: str(workshop.folder)})
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "0 to build, 0 to rebuild, 0 unchanged, 1 refused, 0 to retire"
    assert "north cpu: BackendUnavailable" in done.stdout
    assert "pip install 'regiolect[openvino]'" in done.stdout


def test_run_says_which_extra_a_release_needs(bare: Path, workshop: Workshop) -> None:
    places = {"REGIOLECT_HOME": str(workshop.folder / "home"), "REGIOLECT_POLICIES": str(workshop.policies)}
    done = said(bare / "regiolect", "run", ADDRESS, **places, **{WORKSHOP: str(workshop.folder)})
    assert done.returncode == 1
    assert "BackendUnavailable" in done.stderr
    assert "pip install 'regiolect[release]'" in done.stderr
    assert "Traceback" not in done.stderr


def test_show_says_which_extra_the_registry_needs(bare: Path, tmp_path: Path) -> None:
    nothing = said(bare / "regiolect", "show", "tiny-north", cwd=tmp_path)
    assert nothing.returncode == 2, "where no registry was ever made nothing can be found, with the extra or without"
    (tmp_path / "mlflow.db").write_bytes(b"SQLite format 3\0")
    done = said(bare / "regiolect", "show", "tiny-north", cwd=tmp_path, REGIOLECT_HOME=str(tmp_path))
    assert done.returncode == 1
    assert "RegistryError" in done.stderr
    assert "pip install 'regiolect[registry]'" in done.stderr
    assert "Traceback" not in done.stderr

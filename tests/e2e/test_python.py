"""Regiolect from a script: the page runs as it stands, what is wrong is named, Ctrl-C ends a release alone."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.databases import Databases
from tests.e2e.interrupted import lives
from tests.e2e.terminal import OURS, ROOT, Said
from tests.flows.tiny_models import WORKSHOP, Workshop
from tests.patience import PATIENCE

PAGE = ROOT / "docs" / "python.md"
# A user's own package, whose model is the tiny one.
MODELS = f"""
import os
from dataclasses import replace
from pathlib import Path
from tests.flows.tiny_models import Workshop

MODEL = replace(Workshop(Path(os.environ["{WORKSHOP}"])).spec(), name="shop")
"""
HEAVY = ("great_expectations", "mlflow", "onnx", "prefect", "torch")
WRONG_BEGINS = "what is wrong"
WRONG = """
import sys
from pathlib import Path
import regiolect
from regiolect.errors import RegiolectError
from shop.models import MODEL

def refused(function, *args, **kwargs):
    try:
        function(*args, **kwargs)
    except RegiolectError as error:
        print(f"{type(error).__name__}: {error.found} -> {error.remedy}")
    else:
        print("not refused")

known = {"policies": "policies"}
plan = regiolect.plan(MODEL, **known)
print(plan.address, regiolect.plan(MODEL, regions="eu, na", **known) == plan)
for function in (regiolect.plan, regiolect.run):
    refused(function, "shop.nowhere:MODEL", **known)
    refused(function, "shop.models:MODEL", regions=["eu", "nna"], **known)
    refused(function, "shop.models:MODEL", regions=[], **known)
    refused(function, "shop.models:MODEL", region="eu", **known)
    refused(function, "shop.models:MODEL", targets="gpu", **known)
    refused(function, "shop.models:MODEL", isolation="maybe", **known)
    own = __import__("dataclasses").replace(MODEL, name="own")
    refused(function, own, **known)
print("load")
for name in ("shop-na@champion", "shop-eu@challenger", "shop-eu/7", "shop_eu"):
    refused(regiolect.load, name)
refused(regiolect.load, "shop-eu@champion", home="elsewhere")
refused(regiolect.load, "shop-eu@champion", region="na")
refused(regiolect.load, "shop-eu@champion", trust="nobody.json")
print(Path("elsewhere").exists(), regiolect.load("models:/shop-eu/1").target, regiolect.load("shop-eu").target)
print("changed")
Path("shop/models.py").write_text(Path("shop/models.py").read_text() + "# corrected\\n")
refused(regiolect.plan, "shop.models:MODEL", **known)
refused(regiolect.run, MODEL, **known)
"""


@dataclass(frozen=True)
class Desk:
    """Where scripts run: an empty folder with a package, policies, and a home of its own."""

    workshop: Workshop

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        folder = str(self.workshop.folder)
        # The lock on the machine is in TMPDIR: these scripts wait for nobody but themselves.
        return inherited | {"PYTHONPATH": str(ROOT), WORKSHOP: folder, "REGIOLECT_HOME": "home", "TMPDIR": folder}

    def command(self, script: str) -> list[str]:
        (self.workshop.folder / "script.py").write_text(script)
        # Where tests run in the background of a script, SIGINT is ignored, and so it would be here.
        return ["/usr/bin/env", "--default-signal=INT", sys.executable, "script.py"]

    def __call__(self, script: str) -> Said:
        return subprocess.run(
            self.command(script),
            env=self.environment,
            cwd=self.workshop.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )


def desk_in(folder: Path) -> Desk:
    made = Workshop(folder)
    made.write_model()
    for region in ("eu", "na"):
        made.add(region)
    (folder / "shop").mkdir()
    (folder / "shop" / "models.py").write_text(MODELS)
    return Desk(made)


@pytest.fixture(scope="module")
def desk(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = desk_in(tmp_path_factory.mktemp("desk"))
    databases.put(made.workshop.folder / "home")
    return made


@pytest.fixture(scope="module")
def script(desk: Desk) -> Said:
    """The page as one script, which then says what it has in its environment and memory, and goes on to what is wrong:
    to import anew what it has imported would take seconds."""
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    ours = f"sorted(name for name in os.environ if name.startswith({OURS[:2]!r}) and 'API' in name)"
    loaded = f"sorted({set(HEAVY) - {'mlflow'}!r} & set(sys.modules))"
    left = f"import os, sys\nprint({ours}, {loaded})\nprint({WRONG_BEGINS!r})"
    said = desk("\n".join([*blocks, left, WRONG]))
    assert said.returncode == 0, said.stderr
    return said


@pytest.fixture(scope="module")
def page(script: Said) -> list[str]:
    """The lines that the page printed, and after them what it left."""
    return script.stdout.partition(f"{WRONG_BEGINS}\n")[0].splitlines()


def test_the_page_runs_as_it_stands_and_prints_what_it_says(page: list[str]) -> None:
    printed = re.sub(r"```python\n.*?```\n", "", PAGE.read_text(), flags=re.DOTALL)
    promised = "".join(re.findall(r"```\n(.*?)```\n", printed, re.DOTALL))
    assert page[:-1] == promised.splitlines()


def test_progress_goes_to_stderr_as_in_a_terminal(script: Said) -> None:
    lines = [line for line in script.stderr.splitlines() if not line.startswith("waits for ")]
    assert lines[1] == "shop: 1 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire"
    assert any(re.match(r"1 of 1: eu +cpu .*approved \(loss ", line) for line in lines)
    assert not any("prefect" in line.lower() for line in lines), "a vendor's logger came through"


def test_a_release_leaves_nothing_in_the_process_that_asked_for_it(page: list[str]) -> None:
    assert page[-1] == "[] []", "no server's address, no orchestrator"


def test_what_is_wrong_is_named_with_a_remedy(script: Said) -> None:
    first, *lines = script.stdout.partition(f"{WRONG_BEGINS}\n")[2].splitlines()
    assert first == "shop.models:MODEL True"
    wrong = [
        ("UnknownModel", "no module 'shop.nowhere'", "check the spelling"),
        ("UnknownRegion", "policies for eu, na", "did you mean 'na'?"),
        ("UsageError", "[]", "leave regions out for all"),
        ("InvalidSetting", "region='eu'", "did you mean regions=?"),
        ("UnknownTarget", "'gpu'", "did you mean 'cpu'?"),
        ("InvalidSetting", "'maybe'", "REGIOLECT_ISOLATION"),
        ("InvalidModelSpec", "only this script", "models.py"),
    ]
    load = [
        ("UsageError", "registered: shop-eu", "did you mean 'shop-eu'?"),
        ("UsageError", "shop-eu with @champion, version 1", "regiolect run MODEL --regions eu"),
        ("UsageError", "shop-eu with @champion, version 1", "load one of these"),
        ("UsageError", "'shop_eu'", "regiolect.load('fashion-eu@champion')"),
        ("UsageError", "no registered models", "release it first"),
        ("ForeignRegion", "one of shop for region 'eu'", "models:/shop-na@champion"),
        ("NoTrust", "", "REGIOLECT_TRUST"),
    ]
    changed = [("ChangedMeanwhile", ": models.py changed since", "restart")] * 2
    expected = [*wrong, *wrong, ("load",), *load, ("False cpu cpu",), ("changed",), *changed]
    assert len(lines) == len(expected), lines
    for line, told in zip(lines, expected, strict=True):
        assert all(text in line for text in told), (line, told)


INTERRUPTED = """
import psutil, regiolect
try:
    regiolect.run("shop.models:MODEL", regions="na", policies="policies")
except KeyboardInterrupt:
    print("goes on")
    print(regiolect.plan("shop.models:MODEL", regions="na", policies="policies").summary())
"""


def test_ctrl_c_ends_a_release_with_all_its_processes_and_the_script_goes_on(
    databases: Databases, tmp_path: Path
) -> None:
    desk = desk_in(tmp_path)
    databases.put(tmp_path / "home")
    desk.workshop.hold.write_text("0")
    process = subprocess.Popen(
        desk.command(INTERRUPTED), env=desk.environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while not desk.workshop.held.exists():
            assert process.poll() is None and time.monotonic() < deadline, process.communicate()[0]
            time.sleep(0.05)
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(2)
        said, _ = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 0, said
    assert b"goes on\nshop: 1 to build" in said
    # Fork servers end once they see that nobody is at the other end of their pipe.
    psutil.wait_procs(family, PATIENCE)
    assert [each for each in family if lives(each)] == []

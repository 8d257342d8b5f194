"""A Prefect server on PostgreSQL, one worker, and a browser, once for the module that looks at the pages."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from regiolect.servers import processes
from regiolect.servers.local import LocalServers
from tests.e2e.browser.office import FASHION, GUARDED, Office
from tests.e2e.browser.person import Person, open_browser, programs
from tests.flows.tiny_models import ADDRESS, WORKSHOP, Workshop

ROOT = Path(__file__).parents[3]
PICTURES = "REGIOLECT_SCREENSHOTS"
_FOREIGN = ("AWS_", "MLFLOW_", "PREFECT_", "REGIOLECT_")
_STOP_SECONDS = 10.0


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    programs()  # Before any server is started.
    folder = tmp_path_factory.mktemp("office")
    workshop = Workshop(folder)
    workshop.write_model()
    workshop.write_data(GUARDED, gate=3000, calibration=512, selection=500)
    policies = ROOT / "region_policies"
    shutil.copytree(policies, workshop.policies, ignore=lambda _, names: [n for n in names if not n.endswith(".yaml")])
    with (workshop.policies / f"{GUARDED}.yaml").open("a") as policy:
        policy.write("approval: {wait_minutes: 5}\n")

    home = folder / "home"
    servers = LocalServers(home, workshop.policies, usual_ports=False)
    servers.up(["prefect"])
    try:
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)},
            **servers.environment(),
            WORKSHOP: str(folder),
            "DO_NOT_TRACK": "1",
            "PREFECT_HOME": str(home / "prefect"),
            # By itself a worker looks for runs every 10 s.
            "PREFECT_WORKER_QUERY_SECONDS": "2",
            "PYTHONPATH": str(ROOT),
            "REGIOLECT_BUILD_ON": "here",
            "REGIOLECT_HOME": str(home),
            "REGIOLECT_MODELS": f"{FASHION},{ADDRESS}",
            "REGIOLECT_POLICIES": str(workshop.policies),
        }
        subprocess.run(_program("regiolect", "pools", "apply"), env=environment, cwd=folder, check=True, timeout=600)
        command = _program("prefect", "worker", "start", "--pool", "control")
        worker = processes.launch(command, environment, folder, folder / "worker.log")
        try:
            pictured = PICTURES in os.environ
            yield Office(
                api=environment["PREFECT_API_URL"],
                login=environment["PREFECT_API_AUTH_STRING"],
                home=home,
                model=FASHION if pictured else ADDRESS,
                regions=(GUARDED, "in", "jp") if pictured else (GUARDED,),
            )
        finally:
            processes.end(worker, signal.SIGTERM, _STOP_SECONDS)
    finally:
        servers.down()


def _program(name: str, *arguments: str) -> list[str]:
    return [str(Path(sys.executable).parent / name), *arguments]


@pytest.fixture(scope="module")
def release(office: Office) -> str:
    """The flow run of a release, which builds while a test does something else and then waits for a person."""
    return office.start_release()


@pytest.fixture(scope="module")
def person(office: Office, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    albums = [tmp_path_factory.mktemp("pictures")]
    if folder := os.environ.get(PICTURES):
        albums.append(Path(folder).absolute())
    driver = open_browser(draws=PICTURES in os.environ)
    try:
        made = Person(driver, office.site, tuple(albums))
        made.log_in("regiolect:wrong")
        made.sees("Invalid credentials")
        made.log_in(office.login)
        made.sees("Deployments")
        yield made
    finally:
        driver.quit()

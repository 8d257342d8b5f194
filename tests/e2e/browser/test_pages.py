"""Prefect's pages as a person sees them: the form that starts a release, the approver's question, the finished run.

Pictures go to pytest's temporary folder; with REGIOLECT_SCREENSHOTS=<folder> also there, and then of the example's
model, which takes a minute longer.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from regiolect.engines.catalog import backend
from regiolect.policy import PolicyBook
from regiolect.registry import CHAMPION, Registry
from tests.e2e.browser.office import FASHION, GUARDED, Office
from tests.e2e.browser.person import Person, programs
from tests.flows.tiny_models import ADDRESS
from tests.patience import PATIENCE

POLICIES = PolicyBook(None)
REGIONS = POLICIES.regions()
TARGETS = tuple(sorted({target.name for policy in POLICIES.all() for target in policy.targets}))
DIALOG = "//*[@role='dialog']"


@pytest.mark.usefixtures("release")
def test_a_person_fills_in_the_form_and_reads_what_would_be_built(office: Office, person: Person) -> None:
    person.go("/")
    person.press("Deployments")
    person.search("Search deployments", "release")
    person.press("release", leading_to="/deployments/deployment/")
    person.press("Run")
    person.press("Custom run")
    assert "entry point" in person.description("Model")
    assert "every region that has a policy and data" in person.description("Regions")
    assert "every target" in person.description("Targets")
    assert "Build again" in person.description("Force")
    assert "must be refused" in person.description("Drills")
    assert "nothing is built" in person.description("Dry run")

    person.press("Submit")
    person.sees("'model' is a required property")
    assert person.choose("Model", FASHION) == (FASHION, ADDRESS)
    assert person.choose("Regions", "de", "jp") == REGIONS
    assert person.choose("Targets") == TARGETS
    person.switch_on("Dry run")
    person.picture("form", down_to="//button[normalize-space()='Submit']")
    person.submit("Submit", then="View run")
    person.sees_run(f"release-{FASHION}", "Completed", within=PATIENCE)
    run = office.ask(f"/flow_runs/{person.run_id()}")
    assert run["parameters"] == {
        "model": FASHION,
        "regions": ["de", "jp"],
        "targets": [],
        "force": False,
        "drills": False,
        "dry_run": True,
    }

    person.press("Artifacts")
    person.sees("release-plan", "fashion: 3 to build")
    person.press("release-plan")
    person.follow("/artifacts/artifact/")
    head, *rows = person.table()
    assert head == ["region", "target", "precision", "action", "why"]
    assert [row[:4] for row in rows] == [
        ["de", "cpu-x86", "FP32", "build"],
        ["jp", f"cpu-x86 ({backend('openvino').arithmetic()})", "INT8", "build"],
        ["jp", "gpu-rtx", "INT8", "build"],
    ]
    assert person.hidden_cells() == []
    person.picture("plan", down_to="//*[normalize-space()='State Message']/following-sibling::*")


def test_an_approver_says_yes_with_the_figures_in_view_and_the_run_shows_what_is_served(
    office: Office, release: str, person: Person
) -> None:
    office.wait_until_paused(release, PATIENCE)
    assert not served(office)
    person.go("/")
    person.press("Runs")
    person.press(f"approve-{GUARDED}")
    person.sees_run(f"approve-{GUARDED}", "Paused")
    person.press("Open menu")
    person.press("Resume")
    person.sees(f"{office.name} in Germany", "the gate approved; this policy also asks a person")
    assert person.hidden_cells() == [], "figures that the approver does not see"
    figures = dict(person.table())
    assert figures["target"] == "cpu-x86 (openvino)"
    assert figures["executes"].startswith("FP32")
    assert figures["loss"].endswith("pt")
    assert figures["at most"].endswith("at 95%")
    assert figures["limit"] == "0.1 pt"
    assert int(figures["samples"]) >= 3000
    assert figures["p99"].endswith("ms")

    person.press("Resume")
    person.sees("'name' is a required property")
    person.switch_on("Serve these engines?")
    person.write("Your name", "Ada Lovelace")
    person.write("Comment", "As certified: FP32 throughout.")
    person.picture("approval", of=DIALOG)
    person.press("Resume")
    person.sees("Flow run resumed")

    person.follow(f"/flow-run/{release}")
    person.sees_run(f"release-{office.model}", "Completed", within=PATIENCE)
    person.press("Subflow Runs")
    person.sees(f"approve-{GUARDED}", f"{office.name}-{GUARDED}-cpu-x86")
    person.press("Artifacts")
    person.sees("release-report", f"{office.name}: ")
    person.picture("run", down_to="//a[.//h3[normalize-space()='release-report']]")
    person.press("release-report")
    person.follow("/artifacts/artifact/")
    head, *rows = person.table()
    row = next(dict(zip(head, row, strict=True)) for row in rows if row[0] == GUARDED)
    assert row["decision"] == "approved"
    assert row["limit"] == "0.1 pt"
    assert row["served as"] == f"models:/{office.name}-{GUARDED}@champion"
    assert person.hidden_cells() == []
    assert person.links("//table/..") == [], "a file of the worker's machine is no page"
    person.picture("report", down_to="//table")
    assert served(office)


def test_a_missing_browser_is_a_failure_that_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match="apt-get install chromium chromium-driver"):
        programs(path=str(tmp_path))


def served(office: Office) -> bool:
    registry = Registry(f"sqlite:///{office.home / 'mlflow.db'}", office.home / "mlartifacts")
    return registry.by_alias(f"{office.name}-{GUARDED}", CHAMPION) is not None

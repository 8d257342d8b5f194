"""The command line as a stranger meets it: another process, an embedded Prefect, a terminal that is none."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.databases import Databases
from tests.e2e.terminal import ROOT, Said, Terminal, assert_refused, terminal_in
from tests.flows.tiny_models import ADDRESS


@pytest.fixture
def terminal(tmp_path: Path) -> Terminal:
    return terminal_in(tmp_path)


@dataclass(frozen=True)
class Run:
    terminal: Terminal
    said: Said
    json: Path

    @property
    def rows(self) -> dict[tuple[str, str], dict[str, object]]:
        rows = json.loads(self.json.read_text())["rows"]
        return {(row["region"], row["target"]): row for row in rows}


@pytest.fixture(scope="module")
def run(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One release through an embedded Prefect that this run starts and stops by itself."""
    terminal = terminal_in(tmp_path_factory.mktemp("run"))
    databases.put(terminal.workshop.folder / "home")
    out = terminal.workshop.folder / "out" / "result.json"
    return Run(terminal, terminal("run", ADDRESS, "--json", str(out)), out)


# ---------------------------------------------------------------------------------------------------------- run


def test_a_run_ends_well_with_a_table_and_where_to_look_next(run: Run) -> None:
    assert run.said.returncode == 0, run.said.stderr
    table = run.said.stdout
    for said in ("east", "north", "INT8", "FP16", "approved", "built, not attested", "models:/tiny-north@champion"):
        assert said in table
    report = re.search(r"^report +(\S+\.html)$", table, re.MULTILINE)
    assert report is not None
    assert Path(report[1]).is_file()
    assert f"sqlite:///{run.terminal.workshop.folder}/home/mlflow.db" in table


def test_progress_goes_to_stderr_a_line_per_engine_and_nothing_from_vendors(run: Run) -> None:
    # On a loaded machine it also says, every 30 s, what it waits for.
    begins, first, *lines = (line for line in run.said.stderr.splitlines() if not line.startswith("waits for "))
    assert begins == f"{ADDRESS}: looks at policies, data and what is kept"
    assert first == "tiny: 3 to build, 0 to rebuild, 0 unchanged, 0 refused, 0 to retire"
    of_engines = [line for line in lines if re.match(r"\d of 3: (east|north) +(cpu|gpu) ", line)]
    assert [line[:6] for line in of_engines] == ["1 of 3", "2 of 3", "3 of 3"]
    others = [line for line in lines if line not in of_engines]
    (unrepaired,) = [line for line in others if not line.startswith("export: ")]
    assert unrepaired.startswith("north gpu: INT8, "), "a vendor's logger came through"
    assert "not repaired, which takes a device to score it on" in unrepaired
    assert any(re.search(r"loss -?\d+\.\d\d pt, at most \d+\.\d\d at 95%, limit 5\.00", line) for line in lines)


def test_output_that_is_not_read_in_a_terminal_has_no_escape_codes(run: Run) -> None:
    assert "\x1b" not in run.said.stdout + run.said.stderr


def test_the_json_file_holds_the_table(run: Run) -> None:
    assert set(run.rows) == {("east", "cpu"), ("north", "cpu"), ("north", "gpu")}
    promised = (
        "region target precision executed decision loss loss_lower loss_upper threshold speedup rebuilt model_uri"
    )
    for row in run.rows.values():
        assert set(promised.split()) <= set(row)
        assert row["rebuilt"] is True
    assert run.rows["north", "cpu"]["model_uri"] == "models:/tiny-north@champion"
    assert run.rows["north", "gpu"]["decision"] == "built, not attested"
    assert run.rows["north", "gpu"]["model_uri"] is None


def test_a_plan_after_the_run_has_nothing_to_do_and_says_why(run: Run) -> None:
    said = run.terminal("plan", ADDRESS)
    assert said.returncode == 0
    assert said.stdout.splitlines()[-1] == "0 to build, 0 to rebuild, 3 unchanged, 0 refused, 0 to retire"
    assert run.terminal.here("plan", ADDRESS, "--exit-code").returncode == 0, "nothing to do"
    key = str(run.rows["east", "cpu"]["build_key"]).removeprefix("sha256:")[:12]
    assert f"unchanged since build {key}" in said.stdout


def test_a_run_with_nothing_to_do_says_what_is_kept_and_needs_no_prefect(run: Run) -> None:
    out = run.terminal.workshop.folder / "out" / "again.json"
    said = run.terminal.telling("run", ADDRESS, "--json", str(out))
    assert "tiny: 0 to build, 0 to rebuild, 3 unchanged, 0 refused, 0 to retire" in said.stderr
    *lines, code, loaded = said.stdout.splitlines()
    assert code == "exit 0"
    assert "prefect" not in loaded
    assert not any(line.startswith("report ") for line in lines)
    again = Run(run.terminal, said, out).rows
    timeless = {"rebuilt": False, "reasons": None}
    assert {place: row | timeless for place, row in again.items()} == {
        place: row | timeless for place, row in run.rows.items()
    }


def test_show_tells_what_a_champion_is(run: Run) -> None:
    said = run.terminal("show", "models:/tiny-north@champion")
    assert (said.returncode, said.stderr) == (0, ""), "nothing from vendors"
    facts = {line.split()[0]: line for line in said.stdout.splitlines() if line.strip()}
    assert "models:/tiny-north/1" in facts["engine"]
    assert "verified" in facts["bytes"]
    assert "north (North)" in facts["region"]
    assert "INT8" in facts["precision"]
    assert "INT8" in facts["executes"]
    assert "approved on 400 samples" in facts["gate"]
    assert re.search(r"sha256:[0-9a-f]{64}", facts["calibration"])
    for name in ("tiny-north", "tiny-north@champion"):
        again = run.terminal.here("show", name)
        assert (again.returncode, again.stdout) == (0, said.stdout), again.stderr


def test_show_finds_an_engine_that_is_not_served_by_its_build_key(run: Run) -> None:
    key = str(run.rows["north", "gpu"]["build_key"])
    for start in (key, key.removeprefix("sha256:")[:12]):
        said = run.terminal.here("show", start)
        assert said.returncode == 0, said.stderr
        assert "built, not attested" in said.stdout
        assert "engine.plan" in said.stdout
        assert key in said.stdout


@pytest.mark.parametrize("name", ["tiny-nort", "tiny-north@latest", "0123456789ab"])
def test_show_of_nothing_says_what_can_be_shown(run: Run, name: str) -> None:
    assert_refused(run.terminal.here("show", name), 2, "UsageError", repr(name), "regiolect run")


# ----------------------------------------------------------------------------------------------- wrong requests


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_region_is_answered_with_the_nearest(terminal: Terminal, command: str) -> None:
    said = terminal.here(command, ADDRESS, "--regions", "east,nort")
    assert_refused(said, 2, "UnknownRegion", "'nort'", "did you mean 'north'?")
    assert not (terminal.workshop.folder / "home" / "store").exists(), "nothing was begun"


@pytest.mark.parametrize("command", ["run", "plan"])
def test_an_unknown_model_is_answered_with_what_there_is(terminal: Terminal, command: str) -> None:
    assert_refused(terminal.here(command, "no.such:MODEL"), 2, "UnknownModel", "check the spelling")
    assert_refused(terminal.here(command, "tests.flows.tiny_models:CPU"), 2, "InvalidModelSpec", "found", "dict")


def test_a_process_that_is_refused_ends_with_the_code_and_says_it_on_stderr_alone(terminal: Terminal) -> None:
    assert_refused(terminal("run", "no.such:MODEL"), 2, "UnknownModel", "check the spelling")


def test_a_policy_folder_without_policies_is_refused(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    said = terminal.here("plan", ADDRESS, "--policies", str(tmp_path / "empty"))
    assert_refused(said, 2, "InvalidPolicy", str(tmp_path / "empty"), "--policies")


def test_a_wrong_setting_is_named(terminal: Terminal) -> None:
    wrong = Terminal(terminal.workshop, {"PREFECT_API_URL": "http://127.0.0.1:9/api"})
    assert_refused(wrong("run", ADDRESS), 1, "OrchestratorError", "PREFECT_API_URL", "unset")


def test_a_wrong_option_is_refused_in_the_usual_way(terminal: Terminal) -> None:
    said = terminal("plan", ADDRESS, "--region", "east")
    assert said.returncode == 2
    assert "--regions" in said.stderr
    assert "Traceback" not in said.stderr


# ------------------------------------------------------------------------------------------------------ policies


def test_policies_are_listed_one_a_line(terminal: Terminal) -> None:
    said = terminal.telling("policies", "list")
    lines = {line.split()[1]: line for line in said.stdout.splitlines() if line.startswith("│")}
    assert set(lines) == {"east", "north"}
    assert "5 pt at 95%" in lines["north"]
    assert "cpu (openvino), gpu (tensorrt-rtx)" in lines["north"]
    assert said.stdout.splitlines()[-1] == "loaded []"


def test_the_built_in_policies_are_those_of_the_region_matrix(terminal: Terminal) -> None:
    said = terminal.here("policies", "list", "--policies", str(ROOT / "region_policies"))
    regions = {line.split()[1] for line in said.stdout.splitlines() if line.startswith("│")}
    assert regions == {"br", "de", "eu", "hk", "in", "jp", "me", "na", "sea"}


def test_a_shown_policy_is_whole_and_could_be_saved_as_it_is(terminal: Terminal, tmp_path: Path) -> None:
    terminal.workshop.write_policy("child", extends="east", precision="FP32", limit=1.0)
    shown = terminal.here("policies", "show", "child").stdout
    assert "extends east" in shown.splitlines()[-1]
    (tmp_path / "alone").mkdir()
    (tmp_path / "alone" / "child.yaml").write_text(shown)
    again = terminal.here("policies", "show", "child", "--policies", str(tmp_path / "alone")).stdout
    assert yaml.safe_load(again) == yaml.safe_load(shown)
    digest = re.compile(r"sha256:[0-9a-f]{64}")
    assert digest.findall(again) == digest.findall(shown), "the digest follows what a policy says"


def test_all_mistakes_of_a_folder_are_told_at_once(terminal: Terminal) -> None:
    assert terminal.here("policies", "validate").stdout.splitlines()[-1] == "2 files, no mistake"
    terminal.workshop.write_policy("a", extends="b")
    terminal.workshop.write_policy("b", extends="a")
    terminal.workshop.write_policy("c", extends="north", limit=7.0)
    said = terminal("policies", "validate")
    assert said.returncode == 2
    assert re.findall(r"^[A-Z]\w+$", said.stdout, re.MULTILINE) == ["PolicyCycle", "PolicyLoosens"]
    assert re.findall(r"^(\w+): valid", said.stdout, re.MULTILINE) == ["east", "north"]
    assert said.stdout.splitlines()[-1] == "2 mistakes in 2 of 5 files; 1 other waits for these"


def test_an_unknown_policy_is_answered_with_the_nearest(terminal: Terminal) -> None:
    assert_refused(terminal.here("policies", "show", "nort"), 2, "UnknownRegion", "did you mean 'north'?")


# ---------------------------------------------------------------------------------------------------------- help


def test_help_lists_every_command_with_a_line_of_its_own(terminal: Terminal) -> None:
    said = terminal.telling("--help")
    for command in ("run", "plan", "show", "policies"):
        assert re.search(rf"^ +{command} +\S", said.stdout, re.MULTILINE), said.stdout
    assert said.stdout.splitlines()[-1] == "loaded []"


@pytest.mark.parametrize("command", [("run",), ("plan",), ("show",), ("policies",), ("policies", "validate")])
def test_every_command_explains_itself(terminal: Terminal, command: tuple[str, ...]) -> None:
    said = terminal(*command, "--help")
    assert said.returncode == 0
    assert "Usage: regiolect" in said.stdout
    assert len(said.stdout.splitlines()) > 3


def test_no_command_is_a_question_for_help(terminal: Terminal) -> None:
    said = terminal()
    assert "Usage: regiolect" in said.stdout + said.stderr
    assert said.returncode == 2


def test_the_version_is_that_of_the_package(terminal: Terminal) -> None:
    from regiolect import __version__

    assert terminal("--version").stdout == f"regiolect {__version__}\n"


# ------------------------------------------------------------------------------------------------------- colours


def test_colour_is_shown_where_it_is_asked_for(terminal: Terminal) -> None:
    coloured = Terminal(terminal.workshop, {"FORCE_COLOR": "1", "TERM": "xterm"})
    assert "\x1b[" in coloured("plan", ADDRESS).stdout
    assert "\x1b" not in terminal.here("plan", ADDRESS).stdout

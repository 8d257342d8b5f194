"""`regiolect doctor`: exit 0 where all is well; else every mistake is named at once, with the way to mend it."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from regiolect.doctor import installation
from regiolect.doctor.finding import Check, Diagnosis, Finding, ok
from regiolect.engines.catalog import backend
from regiolect.errors import DeviceLost
from tests.databases import Databases
from tests.flows.tiny_models import CPU, GPU, Workshop
from tests.patience import PATIENCE

pytestmark = pytest.mark.slow

Examined = Callable[..., dict[str, Finding]]
ROOT = Path(__file__).parents[3]
DOCTOR = "from regiolect.cli.app import main; main()"


def doctor(
    *arguments: str, python: tuple[str, ...] = (sys.executable, "-c", DOCTOR)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*python, "doctor", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


def verdicts(findings: Mapping[str, Finding]) -> dict[str, str]:
    return {name: finding.verdict for name, finding in findings.items() if finding.verdict != "ok"}


# --------------------------------------------------------------------------------------------------- all is well


def test_a_healthy_setup_is_told_so_and_its_findings_are_kept_as_json(workshop: Workshop, databases: Databases) -> None:
    home = workshop.folder / "home"
    databases.put_mlflow(home)
    done = doctor("--json", str(workshop.folder / "found.json"))
    assert done.returncode == 0, done.stdout
    assert done.stderr == ""
    told = Diagnosis.model_validate_json((workshop.folder / "found.json").read_bytes())
    found = {finding.name: finding for finding in told.findings}
    expected = {"prefect": "note", "packages: onnxruntime-cuda": "note", "packages: tensorrt": "note"}
    assert verdicts(found) == expected, "else this environment is not a healthy one without a GPU"
    assert {"code", "packages: release", "home", "policies", "backend openvino", "store", "registry"} <= found.keys()
    assert "read with MLflow" in found["registry"].found
    assert "north" in found["model tests.flows.tiny_models:TINY"].found
    assert told.code.removeprefix("sha256:").startswith(found["code"].found.partition("code ")[2][:12])
    for finding in told.findings:
        assert re.search(rf"^{finding.verdict} +{re.escape(finding.name)}", done.stdout, re.MULTILINE)
    (probe,) = (path for path in (home / "store").rglob("*") if path.is_file())
    assert probe.stat().st_size < 1000, "no more than a small record is left behind"


# ------------------------------------------------------------------------------------- several mistakes at once


def test_every_mistake_is_named_at_once(
    workshop: Workshop, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workshop.policies / "south.yaml").write_text("region: south\ntitle: South\nprecision: INT7\n")
    monkeypatch.setenv("REGIOLECT_MODELS", "nobody.knows:THIS,tests.flows.tiny_models:TINY")
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "pools")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    found = examined()
    wrong = {name: finding for name, finding in found.items() if finding.verdict == "wrong"}
    assert wrong.keys() == {"policy of south", "model nobody.knows:THIS", "registry", "prefect"}
    assert "INT7" in wrong["policy of south"].found
    assert wrong["model nobody.knows:THIS"].found.startswith("UnknownModel: ")
    assert "MLFLOW_TRACKING_URI" in wrong["registry"].remedy
    assert "unset REGIOLECT_BUILD_ON" in wrong["prefect"].remedy
    assert all(finding.remedy for finding in wrong.values())


def test_the_command_ends_with_1_and_shows_how_to_mend_it(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "nowhere")
    done = doctor()
    assert done.returncode == 1
    assert re.search(r"^wrong settings$", done.stdout, re.MULTILINE)
    assert "remedy    correct or unset REGIOLECT_BUILD_ON" in done.stdout
    assert "packages: release" in done.stdout, "what needs no settings is looked at all the same"


def test_a_model_that_fits_no_policy_is_wrong(workshop: Workshop, examined: Examined) -> None:
    workshop.write_policy("south", CPU)
    (workshop.policies / "north.yaml").unlink()
    found = examined()["model tests.flows.tiny_models:TINY"]
    assert (found.verdict, found.found) == ("wrong", "data: north; policies: south")


def test_a_policy_that_asks_for_a_metric_the_model_does_not_have_is_wrong(
    workshop: Workshop, examined: Examined
) -> None:
    text = (workshop.policies / "north.yaml").read_text()
    (workshop.policies / "north.yaml").write_text(
        text.replace("accuracy\n", "f1\n", 1).replace("metric: accuracy", "metric: f1")
    )
    found = examined()["model tests.flows.tiny_models:TINY in north"]
    assert found.verdict == "wrong"
    assert "metrics accuracy" in found.found


def test_plans_that_are_built_here_and_run_elsewhere_are_a_note(workshop: Workshop, examined: Examined) -> None:
    workshop.write_policy("north", GPU)
    found = examined()
    assert found["backend tensorrt-rtx"].verdict == "note"
    assert "built, not attested" in found["backend tensorrt-rtx"].found
    assert "backend openvino" not in found, "no policy asks for it"


def test_a_device_that_does_not_answer_is_wrong_and_told_with_its_remedy(
    workshop: Workshop, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost() -> str:
        raise DeviceLost("an NVIDIA GPU that answers its driver", "GPU is lost", "look at `nvidia-smi`")

    workshop.write_policy("north", GPU)
    monkeypatch.setattr(backend(GPU["backend"]), "obstacle", lost)
    found = examined()[f"backend {GPU['backend']}"]
    assert (found.verdict, found.found, found.remedy) == ("wrong", "DeviceLost: GPU is lost", "look at `nvidia-smi`")


def test_a_home_that_cannot_be_written_is_wrong(workshop: Workshop, examined: Examined) -> None:
    (workshop.folder / "home").write_text("no folder")
    found = examined()
    assert found["home"].verdict == "wrong"
    assert "REGIOLECT_HOME" in found["home"].remedy


def test_a_region_that_nobody_knows_is_named(examined: Examined) -> None:
    found = examined(["nort"])
    assert found["region nort"].verdict == "wrong"
    assert "did you mean 'north'?" in found["region nort"].remedy


def test_pools_without_a_place_that_all_machines_reach_are_noted(
    examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGIOLECT_BUILD_ON", "pools")
    found = examined()
    assert found["store, on pools"].verdict == "note"
    assert found["registry, on pools"].verdict == "note"


# -------------------------------------------------------------------------------------------------------- bounds


def test_what_never_answers_is_given_up_and_what_was_found_before_is_kept() -> None:
    never = threading.Event()

    def look() -> Iterator[Finding]:
        yield ok("first", "something", "it")
        never.wait(30)

    first, second = Check("hangs", look, seconds=0.2).findings()
    never.set()
    assert first.name == "first"
    assert (second.verdict, second.expected) == ("wrong", "an answer within 0.2 s")


def test_whatever_a_check_meets_ends_that_check_alone() -> None:
    def look() -> Iterator[Finding]:
        raise LookupError("at postgresql://me:hidden@host/db")

    (found,) = Check("odd", look).findings()
    assert (found.verdict, found.found) == ("wrong", "LookupError: at postgresql://me:***@host/db")


def test_no_secret_of_the_environment_is_said(
    workshop: Workshop, examined: Examined, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = {
        "AWS_SECRET_ACCESS_KEY": "the-secret-of-aws",
        "MLFLOW_TRACKING_URI": "http://me:the-secret-of-mlflow@127.0.0.1:9",
        "REGIOLECT_MODELS": "the-token-of-prefect:X",
        "PREFECT_API_KEY": "the-token-of-prefect",
        "PREFECT_API_URL": "http://the-user-token@127.0.0.1:9/api",
        "REGIOLECT_STORE": "s3://the-secret-of-aws/{region}",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    for name, value in secrets.items():
        monkeypatch.setenv(name, value)
    said = "".join(finding.model_dump_json() for finding in examined().values())
    assert "***" in said
    for secret in ("the-secret-of-aws", "the-secret-of-mlflow", "the-token-of-prefect", "the-user-token"):
        assert secret not in said


# ------------------------------------------------------------------------------------------------- what is missing


def closure(*names: str) -> set[str]:
    """Distributions that these need, themselves included, without any extra of theirs."""
    found: set[str] = set()
    left = list(names)
    while left:
        name = left.pop().lower()
        if name not in found:
            found.add(name)
            needed = [Requirement(text) for text in metadata.requires(name) or ()]
            left += [each.name for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    return found


@pytest.fixture
def core_only(tmp_path: Path) -> tuple[str, ...]:
    """A Python that sees Regiolect and the packages of its core, as after `pip install regiolect`, and nothing else."""
    folder = tmp_path / "site"
    folder.mkdir()
    for name in closure("regiolect"):
        for file in metadata.files(name) or ():
            top = file.parts[0]
            if top != ".." and not top.endswith(".pth") and not (folder / top).exists():
                (folder / top).symlink_to(Path(str(metadata.distribution(name).locate_file(top))))
    for package in ("regiolect", "flows", "tasks", "data_checks", "region_policies", "tests"):
        if not (folder / package).exists():
            (folder / package).symlink_to(ROOT / package)
    return (sys.executable, "-I", "-S", "-c", f"import sys; sys.path.append({str(folder)!r}); {DOCTOR}")


@pytest.mark.acceptance
def test_without_the_extras_each_is_named_with_the_command_that_installs_it(
    workshop: Workshop, core_only: tuple[str, ...]
) -> None:
    os.environ["REGIOLECT_STORE"] = "s3://bucket/{region}"
    done = doctor("--json", python=core_only)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    told = Diagnosis.model_validate_json(done.stdout)
    found = {finding.name: finding for finding in told.findings}
    missing = {
        "packages: orchestrator": "regiolect[orchestrator]",
        "packages: registry": "regiolect[registry]",
        "packages: release": "regiolect[release]",
        "packages: s3": "regiolect[s3]",
        "backend openvino": "regiolect[openvino]",
        "store of shared": "regiolect[s3]",
        "registry": "regiolect[registry]",
        "prefect": "regiolect[release]",
    }
    for name, extra in missing.items():
        assert found[name].verdict == "wrong", name
        assert f"pip install '{extra}'" in found[name].remedy, name
    assert found["packages: core"].verdict == "ok"
    assert found["packages: servers"].verdict == "note", "not everybody runs the servers on this machine"
    assert "not looked at" in found["stores of regions"].found


def test_a_version_outside_what_is_supported_is_named_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    newer = tmp_path / "fastapi-0.155.0.dist-info"
    newer.mkdir()
    (newer / "METADATA").write_text("Metadata-Version: 2.1\nName: fastapi\nVersion: 0.155.0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    found = {finding.name: finding for finding in installation.packages()}
    orchestrator = found["packages: orchestrator"]
    assert orchestrator.verdict == "wrong"
    assert "fastapi 0.155.0, outside <0.151; with newer ones every flow" in orchestrator.found
    assert orchestrator.remedy == "pip install 'regiolect[orchestrator]'"


def test_what_another_distribution_carries_is_not_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str, ask=importlib.metadata.version) -> str:
        if name == "onnxruntime":
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.31.1" if name == "onnxruntime-gpu" else ask(name)

    monkeypatch.setattr(importlib.metadata, "version", installed)
    found = {finding.name: finding for finding in installation.packages()}["packages: onnxruntime"]
    assert (found.verdict, found.found) == ("ok", "onnxruntime-gpu 1.31.1")


def test_backends_that_need_more_than_their_name_are_told_with_it() -> None:
    asked = ("onnxruntime-cuda", "tensorrt")
    found = {finding.name: finding for finding in installation.packages(asked=asked)}
    cuda = "pip uninstall --yes onnxruntime && pip install 'regiolect[onnxruntime-cuda]'"
    assert found["packages: onnxruntime-cuda"].remedy == cuda
    plain = "pip install 'regiolect[tensorrt]' --extra-index-url https://pypi.nvidia.com"
    assert found["packages: tensorrt"].remedy == plain

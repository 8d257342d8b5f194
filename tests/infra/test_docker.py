"""The Dockerfiles: linted by hadolint, and checked for what it does not look at."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from docker.utils.build import exclude_paths

NAMES = ("worker", "worker-gpu", "server")

each = pytest.mark.parametrize("name", NAMES)


def instructions(file: Path) -> list[tuple[str, str]]:
    """(instruction, arguments) in order, continued lines joined, comments left out."""
    lines = [line for line in file.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines()) if word
    ]


@pytest.fixture
def dockerfile(infra: Path, name: str) -> Path:
    return infra / "docker" / f"Dockerfile.{name}"


@each
def test_hadolint_finds_nothing(dockerfile: Path) -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    found = subprocess.run(
        [hadolint, "--no-color", "--failure-threshold", "style", dockerfile],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")


@each
def test_base_images_are_pinned(dockerfile: Path) -> None:
    read = instructions(dockerfile)
    arguments = dict(rest.split("=", 1) for word, rest in read if word == "ARG" and "=" in rest)
    stages: set[str] = set()
    for word, rest in read:
        if word != "FROM":
            continue
        image, _, stage = rest.partition(" AS ")
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
        assert image in stages or re.fullmatch(r"\S+:[\w.-]*\d[\w.-]*", image), image
        stages.add(stage)


@each
def test_the_last_user_is_not_root_and_nothing_needs_to_be(dockerfile: Path) -> None:
    users = [rest for word, rest in instructions(dockerfile) if word == "USER"]
    assert users[-1] == "10001:10001"


@each
def test_no_secret_and_no_whole_folder_goes_in(dockerfile: Path) -> None:
    for word, rest in instructions(dockerfile):
        if word in ("ARG", "ENV"):
            assert not re.search(r"(?i)password|secret|token|access_key", rest)
        assert word != "ADD"
        if word == "COPY":
            assert "." not in shlex.split(rest)[:-1]


@each
def test_everything_that_is_copied_is_in_the_build_context(dockerfile: Path, root: Path) -> None:
    patterns = [line for line in (root / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    context = exclude_paths(str(root), patterns)
    for word, rest in instructions(dockerfile):
        if word == "COPY" and "--from=" not in rest:
            for source in shlex.split(rest)[:-1]:
                assert source.rstrip("/") in context or any(
                    path.startswith(f"{source.rstrip('/')}/") for path in context
                ), source


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_all_that_the_package_is_built_from_goes_in(dockerfile: Path, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())
    copied = {
        source.rstrip("/")
        for word, rest in instructions(dockerfile)
        if word == "COPY" and "--from=" not in rest
        for source in shlex.split(rest)[:-1]
    }
    needed = {*project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"], *project["project"]["license-files"]}
    assert needed | {"pyproject.toml", project["project"]["readme"], "constraints.txt"} == copied


def test_the_build_context_holds_nothing_private(root: Path) -> None:
    patterns = [line for line in (root / ".dockerignore").read_text().splitlines() if line and line[0] != "#"]
    assert patterns[0] == "*"
    context = exclude_paths(str(root), patterns)
    assert not [path for path in context if path.endswith((".env", ".pyc", ".db")) or path.split("/")[0] == ".git"]


@each
def test_packages_are_held_by_the_constraints(dockerfile: Path) -> None:
    installs = [
        command
        for word, rest in instructions(dockerfile)
        if word == "RUN"
        for command in rest.split("&&")
        if "pip install" in command
    ]
    assert installs
    assert all("--constraint constraints.txt" in command for command in installs)


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_a_flow_runs_command_can_take_the_place_of_the_worker(dockerfile: Path) -> None:
    read = instructions(dockerfile)
    [entry] = [json.loads(rest) for word, rest in read if word == "ENTRYPOINT"]
    [command] = [json.loads(rest) for word, rest in read if word == "CMD"]
    # Docker and Kubernetes pools pass `prefect flow-run execute` as arguments of the entrypoint.
    assert entry == ["tini", "--"]
    assert command[:3] == ["prefect", "worker", "start"]


@pytest.mark.parametrize("name", ["worker", "worker-gpu"])
def test_both_worker_images_hold_the_same_release(dockerfile: Path, infra: Path) -> None:
    def installed(file: Path) -> list[str]:
        return [line for line in file.read_text().splitlines() if "'.[release]'" in line or line.startswith("COPY reg")]

    assert [line.rstrip(" \\") for line in installed(dockerfile)] == [
        line.rstrip(" \\") for line in installed(infra / "docker" / "Dockerfile.worker")
    ]


@pytest.mark.parametrize("target", ["prefect", "mlflow"])
def test_each_server_has_its_own_target_with_a_health_check(target: str, infra: Path) -> None:
    read = instructions(infra / "docker" / "Dockerfile.server")
    start = read.index(("FROM", f"base AS {target}"))
    stage = []
    for word, rest in read[start + 1 :]:
        if word == "FROM":
            break
        stage.append((word, rest))
    [port] = [rest for word, rest in stage if word == "EXPOSE"]
    [health] = [rest for word, rest in stage if word == "HEALTHCHECK"]
    [command] = [json.loads(rest) for word, rest in stage if word == "CMD"]
    assert f"127.0.0.1:{port}/" in health
    assert command[command.index("--port") + 1] == port
    # Each asks for a login, and Prefect looks at the Host header.
    if target == "mlflow":
        assert command[:4] == ["mlflow", "server", "--app-name", "basic-auth"]
    else:
        assert command[:5] == ["uvicorn", "--factory", "--app-dir", "/opt/own", "own_hosts:application"]
        assert ("COPY", "regiolect/servers/own_hosts.py /opt/own/") in stage


def test_what_the_image_of_prefect_holds_of_ours_stands_alone(root: Path, tmp_path: Path) -> None:
    """As the image starts it: the one file, in another folder, in front of an application that says who asked."""
    shutil.copy(root / "regiolect" / "servers" / "own_hosts.py", tmp_path)
    (tmp_path / "served.py").write_text("import starlette.applications\ncreate = starlette.applications.Starlette\n")
    script = (
        "from own_hosts import application\nfrom starlette.testclient import TestClient\n"
        "asked = TestClient(application())\n"
        "print([asked.get('/', headers={'Host': host}).status_code for host in ('prefect:4200', 'elsewhere.example')])"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n{script}"],
        env={"SERVED_APPLICATION": "served:create", "SERVED_HOSTS": "prefect,localhost"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[404, 400]", done.stderr

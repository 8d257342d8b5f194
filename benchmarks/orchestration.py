"""What orchestration costs: a night in which nothing has changed, and a full release beside one without Prefect.

    python -m benchmarks.orchestration [--quick] [--only nightly|overhead] [--rounds 3]

Nightly: 100 models in 10 regions, every engine built, approved, registered and champion. One model is released for
real; for the other 99 the same engines are kept and registered under their own build keys (benchmarks.finished_models).
The nightly then plans, compares and decides all 1000 for real: from a folder, and from S3 on this machine.

Overhead: the full release of the example through Prefect's embedded server, and the same stages called one after the
other without it (benchmarks.without_prefect), in turn.

Every run is a process of its own; releases start with a home of their own. The clock starts when Prefect's server is
up, which is shown apart. Writes benchmarks/results/orchestration.json and orchestration.md, unless --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.many_models import FOLDER, REGIONS, ManyModels
from regiolect.errors import BackendUnavailable
from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.integrity import write_atomic
from regiolect.servers.local import LocalServers

EXAMPLE = "examples.fashion:MODEL"
RESULTS = Path(__file__).parent / "results"
# What the project promises.
NIGHT_SECONDS = 60.0
OVERHEAD_PERCENT = 10.0
_FOREIGN = ("AWS_", "MLFLOW_", "PREFECT_", "REGIOLECT_")

Figures = dict[str, float]


def main() -> None:
    """Measure, print tables, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 models and one round; writes no result")
    parser.add_argument("--only", choices=("nightly", "overhead"), help="leave the other measurement as it was")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each kind")
    arguments = parser.parse_args()
    file = RESULTS / "orchestration.json"
    result = json.loads(file.read_bytes()) if arguments.only and file.exists() else {}
    rounds = 1 if arguments.quick else arguments.rounds
    with tempfile.TemporaryDirectory(prefix="regiolect-benchmark-") as folder:
        if arguments.only != "overhead":
            result["nightly"] = measured(lambda: nights(Path(folder), 10 if arguments.quick else 100, rounds))
        if arguments.only != "nightly":
            result["overhead"] = measured(lambda: releases(Path(folder), rounds))
    text = as_text(result)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        write_atomic(file, (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(file.with_suffix(".md"), text.encode())
    print(text)


def measured(measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """A measurement, with the machine and how busy it was."""
    before = os.getloadavg()[0]
    found = measure()
    return {
        "machine": cpu_fingerprint() | {"cores": str(processors())},
        "measured": datetime.now(UTC).date().isoformat(),
        "load": [round(before, 1), round(os.getloadavg()[0], 1)],
        **found,
    }


def nights(folder: Path, models: int, rounds: int) -> dict[str, Any]:
    """Nights in which nothing has changed, from a folder and, where its server is installed, from S3."""
    many = ManyModels(folder / "many")
    many.write(models)
    addresses = many.addresses()
    home = {"REGIOLECT_HOME": str(folder / "home")}
    here = home | {FOLDER: str(many.folder), "REGIOLECT_POLICIES": str(many.policies)}
    run("prepare", addresses, here)
    run("register", addresses, here)
    stores = {"a folder": [run("nightly", addresses, here) for _ in range(rounds)]}
    try:
        with object_store(folder / "servers", many.policies) as at_s3:
            # The same build keys, so the same champions: only the store is filled anew.
            run("prepare", addresses, here | at_s3)
            stores["S3"] = [run("nightly", addresses, here | at_s3) for _ in range(rounds)]
    except BackendUnavailable as error:
        print(f"S3 is left out: {error.found}; {error.remedy}")
    return {"models": models, "regions": len(REGIONS), "stores": stores}


def releases(folder: Path, rounds: int) -> dict[str, Any]:
    """Full releases, with Prefect and without, in turn."""
    runs: dict[str, list[Figures]] = {"release": [], "peer": []}
    for number in range(rounds):
        for kind, done in runs.items():
            # The peer has all stages in one process; what children cost is benchmarks.isolation's to say.
            own = {"REGIOLECT_HOME": str(folder / f"{kind}-{number}"), "REGIOLECT_ISOLATION": "off"}
            done.append(run(kind, [EXAMPLE], own))
    return {"model": EXAMPLE, **runs}


@contextmanager
def object_store(folder: Path, policies: Path) -> Iterator[dict[str, str]]:
    """An S3 server on this machine, as the environment of its clients.

    Raises:
        BackendUnavailable: it is not installed.
    """
    servers = LocalServers(folder, policies, usual_ports=False)
    try:
        servers.up(["s3"])
        yield servers.environment()
    finally:
        servers.down()


def run(kind: str, addresses: Sequence[str], environment: Mapping[str, str]) -> Figures:
    """One run in a process of its own, and its figures."""
    with tempfile.TemporaryDirectory() as scratch:
        figures, log = Path(scratch) / "figures.json", Path(scratch) / "log"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
        # A lock in the temporary folder keeps timings apart from other releases: nobody else's are waited for.
        own = {"TMPDIR": scratch, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
        command = [sys.executable, "-m", "benchmarks.one_run", str(figures), kind, *addresses]
        with log.open("wb") as file:
            done = subprocess.run(
                command, env={**inherited, **own, **environment}, stdout=file, stderr=subprocess.STDOUT, check=False
            )
        if done.returncode:
            raise SystemExit(f"{' '.join(command[2:5])} ended with {done.returncode}:\n{log.read_text()[-4000:]}")
        found: Figures = json.loads(figures.read_bytes())
    print(kind, ", ".join(f"{name} {value:.4g}" for name, value in found.items()), flush=True)
    return found


def as_text(result: Mapping[str, Any]) -> str:
    """Both measurements as Markdown."""
    parts = []
    if "nightly" in result:
        parts += _nights_as_text(result["nightly"])
    if "overhead" in result:
        parts += _releases_as_text(result["overhead"])
    return "\n".join(parts).strip() + "\n"


def _nights_as_text(found: Mapping[str, Any]) -> list[str]:
    lines = [
        f"A night in which nothing has changed: {found['models']} models x {found['regions']} regions, medians in "
        f"seconds. {_where(found)} Planned and decided for real, built once: the engines of the other "
        f"{found['models'] - 1} models are the first one's under their own build keys. `rest` is Prefect, the "
        "comparison and the digest.",
        "",
        "| store | engines | nightly s | promised | planning | reading champions | rest | requests to S3 | CPU s | "
        "server start, not counted |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for store, runs in found["stores"].items():
        at = _medians(runs)
        lines.append(
            f"| {store} | {at['engines']:.0f} | {at['seconds']:.1f} | below {NIGHT_SECONDS:.0f} | "
            f"{at['planning']:.1f} | {at['champions']:.1f} | {at['rest']:.1f} | {at['requests']:.0f} | "
            f"{at['cpu']:.1f} | {at['server_start']:.1f} |"
        )
    return [*lines, ""]


def _releases_as_text(found: Mapping[str, Any]) -> list[str]:
    ours, peer = (
        {name: median(each[name] for each in found[kind]) for name in found[kind][0]} for kind in ("release", "peer")
    )
    over, cpu = (100 * (ours[name] / peer[name] - 1) for name in ("seconds", "cpu"))
    return [
        f"A full release of `{found['model']}`, {ours['built']:.0f} engines, {len(found['release'])} runs of each in "
        f"turn, medians. {_where(found)} The peer calls the same stages without Prefect, as wide side by side. An "
        f"empty task costs {1000 * ours['per_task']:.1f} ms.",
        "",
        "| | s | over the peer | promised | CPU s | over the peer | server start, not counted |",
        "| --- | --- | --- | --- | --- | --- | --- |",
        f"| with Prefect, embedded | {ours['seconds']:.1f} | {over:+.1f} % | below {OVERHEAD_PERCENT:.0f} % | "
        f"{ours['cpu']:.1f} | {cpu:+.1f} % | {ours['server_start']:.1f} |",
        f"| without | {peer['seconds']:.1f} | | | {peer['cpu']:.1f} | | |",
        "",
    ]


def _medians(runs: Sequence[Figures]) -> Figures:
    return {name: median(each[name] for each in runs) for name in runs[0]}


def _where(found: Mapping[str, Any]) -> str:
    machine, (before, after) = found["machine"], found["load"]
    return f"{machine['cpu']}, {machine['cores']} cores, load {before} before and {after} after, {found['measured']}."


if __name__ == "__main__":
    main()

"""What a plan costs: `regiolect plan` on 100 models in 10 regions, from the command to its last line.

    python -m benchmarks.plan [--quick] [--rounds 5]

Every run is a process of its own, and its seconds count from its start to its end, interpreter and imports included.
One model is released for real; for the others the same engines are kept under their own build keys
(benchmarks.finished_models), so that a plan finds, reads and compares 1000 engines, and asks the registry what is
served.

Three plans are made of the same models: nothing changed, the limit of one region's policy changed, and nothing was ever
built. The peer is a Python process that does nothing but digest the files that a plan must read: their weights, graphs
and samples, each once, by the same hash. It stands for what no plan can leave out that is to notice a changed file.
All this once with models of a few kilobytes, and once with weights that make the hashing count.

Writes benchmarks/results/plan.json and plan.md, unless --quick.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.many_models import FOLDER, REGIONS, ManyModels
from benchmarks.orchestration import measured, run
from regiolect.integrity import write_atomic

RESULTS = Path(__file__).parent / "results"
COMMAND = Path(sysconfig.get_path("scripts")) / "regiolect"
# What the project promises, of the small models.
PLAN_SECONDS = 3.0
WEIGHTS_MIB = 8
# Read from stdin: so many files are too long for a command line.
_PEER = """
import hashlib, sys
for line in sys.stdin:
    with open(line.rstrip("\\n"), "rb") as file:
        hashlib.file_digest(file, "sha256").hexdigest()
"""

Figures = dict[str, float]
# What a plan finds in each state of things, and nothing else beside what is unchanged.
CASES: Mapping[str, str] = {
    "nothing changed": "reuse",
    "one region's limit changed": "rebuild",
    "nothing was built": "build",
}


def main() -> None:
    """Measure, print a table, write JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="10 models and one round; writes no result")
    parser.add_argument("--rounds", type=int, default=5, help="runs of each kind, in turn")
    arguments = parser.parse_args()
    models, rounds = (10, 1) if arguments.quick else (100, arguments.rounds)
    with tempfile.TemporaryDirectory(prefix="regiolect-benchmark-") as folder:
        result = measured(
            lambda: {
                "models": models,
                "regions": len(REGIONS),
                "sizes": [plans(Path(folder) / f"{mib}", models, mib, rounds) for mib in (0, WEIGHTS_MIB)],
            }
        )
    text = as_text(result)
    if not arguments.quick:
        RESULTS.mkdir(exist_ok=True)
        write_atomic(RESULTS / "plan.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(RESULTS / "plan.md", text.encode())
    print(text)


def plans(folder: Path, models: int, weights_mib: int, rounds: int) -> dict[str, Any]:
    """Plans of models with so much weight each, and the peer, in turn."""
    many = ManyModels(folder / "many")
    many.write(models, weights_mib)
    home = {"REGIOLECT_HOME": str(folder / "home")}
    here = home | {FOLDER: str(many.folder), "REGIOLECT_POLICIES": str(many.policies)}
    addresses = many.addresses()
    run("prepare", addresses, here)
    files = "".join(f"{path}\n" for path in many.files())
    found: dict[str, list[Figures]] = {case: [] for case in [*CASES, "peer"]}
    for _ in range(rounds):
        found["peer"].append(timed([sys.executable, "-c", _PEER], {}, files))
        for case, action in CASES.items():
            changed = REGIONS[0] if action == "rebuild" else None
            if changed:
                many.write_limit(changed, 4.0)
            empty = {"REGIOLECT_HOME": str(folder / "empty")} if action == "build" else {}
            found[case].append(planned(addresses, here | empty, action, models * (1 if changed else len(REGIONS))))
            if changed:
                many.write_limit(changed, 5.0)
    size = sum(path.stat().st_size for path in many.files())
    return {"weights_mib": weights_mib, "bytes": size, "engines": models * len(REGIONS), "runs": found}


def planned(addresses: Sequence[str], environment: Mapping[str, str], action: str, count: int) -> Figures:
    """One plan, which is measured, after one as JSON that must have found what there is to find."""
    command = [str(COMMAND), "plan", *addresses]
    told = subprocess.run(
        [*command, "--json"], env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    summary = json.loads(told.stdout)["summary"]
    # The engines that are kept without a release were never registered: unchanged, and to be promoted.
    found = summary[action] + (summary["promote"] if action == "reuse" else 0)
    if found != count or summary["refuse"]:
        raise SystemExit(f"expected {count} to {action}, found {summary}: {told.stderr}")
    return timed(command, environment)


def timed(command: Sequence[str], environment: Mapping[str, str], text: str = "") -> Figures:
    """Seconds and processor seconds of a command from its start to its end."""
    before, clock = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(
        command, env={**os.environ, **environment}, input=text, text=True, stdout=subprocess.DEVNULL, check=True
    )
    seconds, after = time.perf_counter() - clock, resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"seconds": seconds, "cpu": used}


def as_text(result: Mapping[str, Any]) -> str:
    """The measurement as Markdown."""
    machine, (before, after) = result["machine"], result["load"]
    lines = [
        f"`regiolect plan` on {result['models']} models x {result['regions']} regions, from the command to its last "
        f"line, medians of {len(result['sizes'][0]['runs']['peer'])} runs in turn, in seconds. {machine['cpu']}, "
        f"{machine['cores']} cores, load {before} before and {after} after, {result['measured']}. The peer digests the "
        "files that a plan must read and does nothing else. Every file is read anew for every plan.",
        "",
        "| to digest | state of things | s | promised | CPU s | the peer, s | the peer, CPU s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for size in result["sizes"]:
        peer = _medians(size["runs"]["peer"])
        for case in CASES:
            ours = _medians(size["runs"][case])
            promised = f"below {PLAN_SECONDS:.0f}" if not size["weights_mib"] else ""
            lines.append(
                f"| {size['bytes'] / 1e6:.0f} MB | {case} | {ours['seconds']:.2f} | {promised} | {ours['cpu']:.2f} | "
                f"{peer['seconds']:.2f} | {peer['cpu']:.2f} |"
            )
    return "\n".join(lines) + "\n"


def _medians(runs: Sequence[Figures]) -> Figures:
    return {name: median(each[name] for each in runs) for name in runs[0]}


if __name__ == "__main__":
    main()

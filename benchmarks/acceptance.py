"""The full counts: every kill and every attack, of which `make test` tries some, and the long enumerations.

    python -m benchmarks.acceptance

One step after another: each file of tests that holds tests marked `acceptance`, the whole of it, and the enumerations
of the gate. What each step came to is written at once to benchmarks/results/acceptance.json and acceptance.md, with the
digest of the code. A step that passed with the same code is not done again: what was stopped, or in which something
failed, goes on from there. Ends with 1 where a step failed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from regiolect.host.cpu import cpu_fingerprint
from regiolect.host.processors import processors
from regiolect.integrity import digest_of, digest_source, write_atomic

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CODE = ("benchmarks", "data_checks", "flows", "infra", "region_policies", "regiolect", "tasks", "tests")
ENUMERATIONS = ("benchmarks.gate_coverage", "benchmarks.gate_score_coverage")


def main() -> None:
    """Do what is left, print the table, end with 1 where something failed."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    steps = [*test_files(), *ENUMERATIONS]
    result = begun(code_digest())
    for step in steps:
        if result["steps"].get(step, {}).get("passed"):
            continue
        print(f"{step} ...", flush=True)
        result["steps"][step] = (tested if step in test_files() else enumerated)(step)
        write_atomic(RESULTS / "acceptance.json", (json.dumps(result, indent=2) + "\n").encode())
        write_atomic(RESULTS / "acceptance.md", as_text(result).encode())
    print(as_text(result))
    sys.exit(0 if all(result["steps"][step]["passed"] for step in steps) else 1)


def test_files() -> list[str]:
    """Files of tests that hold some for here alone, by path from the root."""
    files = (ROOT / "tests").rglob("test_*.py")
    return sorted(str(file.relative_to(ROOT)) for file in files if "mark.acceptance" in file.read_text())


def code_digest() -> str:
    """Of all that could change what a step comes to."""
    files = sorted(file for folder in CODE for file in (ROOT / folder).rglob("*.py"))
    files += [*sorted((ROOT / "region_policies").glob("*.yaml")), ROOT / "constraints.txt", ROOT / "pyproject.toml"]
    return digest_of({str(file.relative_to(ROOT)): digest_source(file) for file in files})


def begun(code: str) -> dict[str, Any]:
    """The result that is there, where it is of this code; else an empty one."""
    path = RESULTS / "acceptance.json"
    kept = json.loads(path.read_text()) if path.is_file() else {}
    if kept.get("code") == code:
        return dict(kept)
    machine = cpu_fingerprint() | {"cores": str(processors())}
    return {"code": code, "made": datetime.now(UTC).date().isoformat(), "machine": machine, "steps": {}}


def tested(file: str) -> dict[str, Any]:
    """All tests of a file, those for here and the others: some go on from each other."""
    with tempfile.TemporaryDirectory(prefix="regiolect-acceptance-") as folder:
        report = Path(folder) / "report.xml"
        clock = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-m", "", file, f"--junitxml={report}"], cwd=ROOT, check=False
        )
        seconds = round(time.perf_counter() - clock, 1)
        # Written by pytest itself, a moment ago.
        suites = ElementTree.parse(report).getroot().findall("testsuite") if report.is_file() else []  # noqa: S314
        counts = {
            name: sum(int(suite.get(name, 0)) for suite in suites)
            for name in ("tests", "failures", "errors", "skipped")
        }
    # What was only skipped shows nothing.
    return {"passed": done.returncode == 0 and counts["tests"] > counts["skipped"], "seconds": seconds, **counts}


def enumerated(module: str) -> dict[str, Any]:
    """An enumeration, which writes its own results and ends with another code than 0 where a bound does not hold."""
    clock = time.perf_counter()
    done = subprocess.run([sys.executable, "-m", module], cwd=ROOT, check=False)
    return {"passed": done.returncode == 0, "seconds": round(time.perf_counter() - clock, 1)}


def as_text(result: Mapping[str, Any]) -> str:
    """The table."""
    machine, steps = result["machine"], result["steps"]
    rows = [
        f"| {name} | {step.get('tests', '')} | {step.get('skipped', '')} | {'passed' if step['passed'] else 'FAILED'} "
        f"| {step['seconds']:.0f} |"
        for name, step in steps.items()
    ]
    return "\n".join(
        [
            "# Full counts",
            "",
            f"{machine['cpu']} ({machine['isa']}), {machine['cores']} cores, {result['made']}. `make acceptance`",
            "",
            "| step | tests | skipped | | s |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            f"| all | {sum(step.get('tests', 0) for step in steps.values())} | | "
            f"| {sum(step['seconds'] for step in steps.values()):.0f} |",
            "",
        ]
    )


if __name__ == "__main__":
    main()

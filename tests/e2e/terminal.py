"""Where commands are typed in these tests: another process, with a home and policies of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from dataclasses import dataclass, field
from pathlib import Path

from tests.flows.tiny_models import CPU, GPU, WORKSHOP, Workshop
from tests.patience import PATIENCE

ROOT = Path(__file__).parents[2]
COMMAND = Path(sysconfig.get_path("scripts")) / "regiolect"
OURS = ("PREFECT_", "REGIOLECT_", "MLFLOW_")
# Runs a command and says on its last line which of these packages it has loaded.
HEAVY = ("great_expectations", "mlflow", "onnx", "prefect", "torch")
TELLING = f"""
import sys
from regiolect.cli.app import main
sys.argv[0] = "regiolect"
try:
    main()
except SystemExit as end:
    print("exit", end.code)
print("loaded", sorted(set({HEAVY!r}) & set(sys.modules)))
"""

Said = subprocess.CompletedProcess[str]


@dataclass(frozen=True)
class Terminal:
    """Where commands are typed: the repository's root, with a home and policies of its own."""

    workshop: Workshop
    variables: dict[str, str] = field(default_factory=dict)

    def __call__(self, *arguments: str, program: tuple[str, ...] = (str(COMMAND),)) -> Said:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        own = {
            WORKSHOP: str(self.workshop.folder),
            "REGIOLECT_HOME": str(self.workshop.folder / "home"),
            "REGIOLECT_POLICIES": str(self.workshop.policies),
            # The lock on the machine is in it: these commands wait for nobody but themselves.
            "TMPDIR": str(self.workshop.folder),
        }
        return subprocess.run(
            [*program, *arguments],
            env=inherited | own | self.variables,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def telling(self, *arguments: str) -> Said:
        return self(*arguments, program=(sys.executable, "-c", TELLING))


def terminal_in(folder: Path) -> Terminal:
    made = Workshop(folder)
    made.write_model()
    made.add("east", precision="FP16")
    made.add("north", CPU, GPU)
    return Terminal(made)


def assert_refused(said: Said, code: int, *told: str) -> None:
    """Named, with a remedy, on stderr alone, and without a stack trace."""
    assert said.returncode == code, said.stderr
    assert "Traceback" not in said.stderr
    assert "remedy" in said.stderr
    for text in told:
        assert text in said.stderr
    assert said.stdout == ""

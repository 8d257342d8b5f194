"""Where commands are typed in these tests: another process or this one, with a home and policies of its own."""

from __future__ import annotations

import io
import logging
import os
import subprocess
import sys
import sysconfig
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from unittest.mock import patch

from regiolect.cli import main
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

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
        own = {
            WORKSHOP: str(self.workshop.folder),
            "REGIOLECT_HOME": str(self.workshop.folder / "home"),
            "REGIOLECT_POLICIES": str(self.workshop.policies),
            # The lock on the machine is in it: these commands wait for nobody but themselves.
            "TMPDIR": str(self.workshop.folder),
        }
        return inherited | own | self.variables

    def __call__(self, *arguments: str, program: tuple[str, ...] = (str(COMMAND),)) -> Said:
        return subprocess.run(
            [*program, *arguments],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def here(self, *arguments: str) -> Said:
        """The same in this process, which has imported already what each of others would import for seconds: for what
        commands say, where other tests show that a process says it."""
        said, told = io.StringIO(), io.StringIO()
        with (
            patch.dict(os.environ, self.environment, clear=True),
            patch.object(sys, "argv", [COMMAND.name, *arguments]),
            chdir(ROOT),
            redirect_stdout(said),
            redirect_stderr(told),
            _hooks_of_its_own(),
        ):
            code = _code_of_main()
        return Said(arguments, code, said.getvalue(), told.getvalue())

    def telling(self, *arguments: str) -> Said:
        return self(*arguments, program=(sys.executable, "-c", TELLING))


@contextmanager
def _hooks_of_its_own() -> Iterator[None]:
    """What a command sets for its whole process, and pytest has set for its own, is as before once the block ends."""
    hooks = ((sys, "excepthook"), (sys, "unraisablehook"), (threading, "excepthook"), (warnings, "formatwarning"))
    records = logging.getLogRecordFactory()
    with ExitStack() as stack:
        for module, hook in hooks:
            stack.enter_context(patch.object(module, hook, getattr(module, hook)))
        stack.callback(logging.setLogRecordFactory, records)
        yield


def _code_of_main() -> int:
    """The exit code that the command's process would have."""
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    return 0


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

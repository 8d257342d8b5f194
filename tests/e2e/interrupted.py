"""Commands at a stage where they can be interrupted, on real processes; for tests and for a benchmark."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from regiolect.host.interrupts import MESSAGE
from regiolect.servers.temporary import PROGRAM
from tests.e2e.terminal import COMMAND, ROOT, Terminal
from tests.flows.tiny_models import ADDRESS, Workshop
from tests.patience import PATIENCE


@dataclass
class Running:
    """A command at work; its output goes to a file, so that nobody waits for who else holds a pipe."""

    process: subprocess.Popen[bytes]
    output: Path

    def until(self, is_so: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not is_so():
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.05)

    def said(self) -> str:
        return self.output.read_text()

    def server(self) -> psutil.Process:
        """Its temporary Prefect server."""
        (found,) = [child for child in psutil.Process(self.process.pid).children() if PROGRAM in child.cmdline()]
        return found

    def listening(self) -> list[psutil.Process]:
        """All processes of the command that wait for connections of others."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        return [each for each in family if _listens(each)]

    def interrupted(self, number: signal.Signals) -> float:
        """Seconds from the signal to the prompt. Its exit code is right, its word the last, and no process left."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        begin = time.monotonic()
        self.process.send_signal(number)
        assert self.process.wait(60) == 128 + number
        seconds = time.monotonic() - begin
        assert self.said().splitlines()[-1] == MESSAGE
        assert "Traceback" not in self.said()
        assert [process for process in family if lives(process)] == []
        return seconds


@dataclass
class Desk:
    """Where commands are typed, and what lies in their home."""

    workshop: Workshop

    @property
    def home(self) -> Path:
        return self.workshop.folder / "home"

    @property
    def records(self) -> dict[Path, bytes]:
        """All that says what came of regions. A journal of a tuning goes on by itself."""
        folder = self.home / "store" / "records"
        kinds = ("outcomes", "latest", "runs", "exports", "observations")
        return {path: path.read_bytes() for kind in kinds for path in (folder / kind).glob("*") if path.is_file()}

    @property
    def environment(self) -> dict[str, str]:
        return Terminal(self.workshop).environment

    @contextmanager
    def typed(self, *arguments: str, **variables: str) -> Iterator[Running]:
        output = self.workshop.folder / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                # Where tests run in the background of a script, SIGINT is ignored, and so it would be here.
                ["/usr/bin/env", "--default-signal=INT,TERM", str(COMMAND), *arguments],
                env=self.environment | variables,
                cwd=ROOT,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        try:
            yield Running(process, output)
        finally:
            process.kill()
            process.wait()

    @contextmanager
    def in_tuning(self, region: str) -> Iterator[Running]:
        """A tuning of minutes that measures: it has kept a journal since it began."""
        journals = self.home / "store" / "records" / "tunings"
        before = {path: path.stat().st_mtime_ns for path in journals.glob("*")}
        with self.typed("tune", ADDRESS, "--regions", region, "--minutes", "5", "--force") as running:
            running.until(lambda: before != {path: path.stat().st_mtime_ns for path in journals.glob("*")})
            yield running

    @contextmanager
    def in_wait(self) -> Iterator[tuple[Running, int]]:
        """A command that waits for the machine, which the process of that number has, and has said so."""
        hold = "from regiolect.host.lock import whole_machine\nwith whole_machine(): print(flush=True); input()"
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", hold], env=self.environment, cwd=ROOT, **pipes) as holder:
            try:
                assert holder.stdout is not None
                holder.stdout.readline()
                with self.typed("run", ADDRESS, "--force") as running:
                    running.until(lambda: f": process {holder.pid} " in running.said())
                    yield running, holder.pid
            finally:
                holder.kill()

    @contextmanager
    def held_at(self, score: int, *arguments: str, **variables: str) -> Iterator[Running]:
        """A command that stands still in a library's call, in the middle of computing that score.

        A region scores the reference and one graph on its selection set while it is built (0, 1), and both again on its
        gate set in two parts while it is evaluated (2 to 5); the second region comes after the first.
        """
        self.workshop.held.unlink(missing_ok=True)
        self.workshop.hold.write_text(str(score))
        variables["PREFECT_TASK_RUNNER_THREAD_POOL_MAX_WORKERS"] = "1"
        with self.typed(*arguments, **variables) as running:
            running.until(self.workshop.held.exists)
            yield running
        self.workshop.hold.unlink()


def _listens(process: psutil.Process) -> bool:
    try:
        return any(found.status == "LISTEN" for found in process.net_connections("tcp"))
    except psutil.NoSuchProcess:
        return False


def desk_in(folder: Path) -> Desk:
    made = Workshop(folder)
    made.write_model()
    made.add("east")
    made.add("north")
    return Desk(made)


def lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False

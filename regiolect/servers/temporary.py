"""The Prefect server of one command, where PREFECT_API_URL names none: it begins and ends with that command.

It runs in a session of its own, which Ctrl-C in the terminal does not reach, and ends with the process that started it,
however that ends. It listens on a free port of this machine alone and serves nobody who does not have this command's
random password.
"""

from __future__ import annotations

import atexit
import errno
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from regiolect.errors import OrchestratorError, StorageError
from regiolect.host.room import require_room
from regiolect.progress import note
from regiolect.servers import processes
from regiolect.servers.ports import HOST
from regiolect.servers.processes import Patience, ProcessId
from regiolect.servers.server import PYTHON, http_problem
from regiolect.settings import TEMPORARY_SERVER

if TYPE_CHECKING:
    import psutil

PROGRAM = "flows.temporary_server"
# How Prefect starts the one that it would start by itself; earlier versions of Regiolect left that to it.
PREFECTS_OWN = "prefect.server.api.server:create_app"
# A server on its way up works; one that did nothing for so long waits for something that does not come.
IDLE_SECONDS = 120.0
ATTEMPTS = 3
_POLL_SECONDS = 0.1
_STOP_SECONDS = 5.0
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), "database or disk is full")


@dataclass
class TemporaryServer:
    """A server on its way up: `begin` starts it, `wait` returns when it answers.

    folder: Prefect's home, where its database is.
    """

    folder: Path
    address: str = field(init=False)
    _listener: socket.socket = field(init=False, repr=False)
    _password: str = field(init=False, repr=False)
    process: ProcessId | None = field(default=None, init=False)

    @property
    def log(self) -> Path:
        return self.folder / f"temporary-{os.getpid()}.log"

    def begin(self) -> None:
        """Start it and point this process's environment at it, which Prefect reads when it is imported.

        Raises:
            StorageError: its folder cannot be written.
        """
        # Bound here and passed on, so that no other program takes the port meanwhile.
        self._listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self._listener.bind((HOST, 0))
        self.address = f"http://{HOST}:{self._listener.getsockname()[1]}"
        self._password = f"regiolect:{secrets.token_urlsafe(32)}"
        os.environ[TEMPORARY_SERVER] = os.environ["PREFECT_API_URL"] = f"{self.address}/api"
        os.environ["PREFECT_API_AUTH_STRING"] = self._password
        self._drop_logs()
        # Called after Prefect's own threads, which still send to it when the interpreter ends.
        atexit.register(self.stop)
        self._launch()

    def wait(self) -> None:
        """Return when it answers, however long that takes while it is at work; say every 30 s that it is not there yet.

        One that ends or hangs is started again, three times in all.

        Raises:
            StorageError: the disk is full.
            OrchestratorError: it ended or hung each time; its log's end is told.
        """
        for attempt in range(1, ATTEMPTS + 1):
            problem = self._problem()
            if problem is None:
                # Its own copy is the one that counts: connections to a dead server are to be refused.
                self._listener.close()
                return
            lines = processes.last_lines(self.log)
            self._kill()
            _require_disk(self.folder, lines)
            if attempt < ATTEMPTS:
                note(f"the temporary Prefect server did not start ({problem}); once more")
                self._launch()
        raise OrchestratorError(
            expected=f"a temporary Prefect server to start, in {ATTEMPTS} attempts",
            found=f"{problem}; its log ends with:\n{lines or '(nothing)'}",
            remedy=f"mend what it names, or see `prefect server start`; its folder is {self.folder}",
        )

    def stop(self) -> None:
        """End it, and everything that it started. Nothing happens if it does not run."""
        if self.process is not None:
            processes.end(self.process, signal.SIGTERM, _STOP_SECONDS)
            self.drop_log()
        self.process = None
        self._listener.close()
        for name in (TEMPORARY_SERVER, "PREFECT_API_URL", "PREFECT_API_AUTH_STRING"):
            os.environ.pop(name, None)

    def drop_log(self) -> None:
        """Remove its log, and those of earlier attempts."""
        for log in self.folder.glob(f"{self.log.name}*"):
            log.unlink(missing_ok=True)

    def _launch(self) -> None:
        listener = self._listener.fileno()
        command = (*PYTHON, PROGRAM, str(listener), str(os.getpid()))
        try:
            self.process = processes.launch(command, self._environment(), self.folder, self.log, (listener,))
        except OSError as error:
            _require_disk(self.folder, str(error))
            raise StorageError(
                expected=f"to write {self.log}",
                found=f"{error.strerror or error} ({type(error).__name__})",
                remedy="mend the permissions of its folder, or choose another place with REGIOLECT_HOME",
            ) from error

    def _environment(self) -> dict[str, str]:
        """This process's own, with what it must not share with its server left out."""
        ours = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL")
        inherited = {name: value for name, value in os.environ.items() if name not in ours}
        return inherited | {
            # What this process imports, the server imports too, wherever it runs.
            "PYTHONPATH": os.pathsep.join(path or str(Path.cwd()) for path in sys.path),
            "PREFECT_UI_ENABLED": "0",
            # No release uses Prefect's blocks, and to list them the server imports every collection that is installed.
            "PREFECT_SERVER_REGISTER_BLOCKS_ON_START": "0",
            "PREFECT_SERVER_MEMOIZE_BLOCK_AUTO_REGISTRATION": "0",
            "PREFECT__SERVER_EPHEMERAL": "1",
            "PREFECT__SERVER_FINAL": "1",
            "PREFECT_SERVER_API_AUTH_STRING": self._password,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": self.address,
        }

    def _problem(self) -> str | None:
        """None once it answers; why it does not and never will."""
        if self.process is None:
            return "it was not started"
        patience = Patience(self.process, "the temporary Prefect server")
        while True:
            if not processes.is_alive(self.process):
                return f"it ended with exit code {processes.exit_code(self.process)}"
            if http_problem((f"{self.address}/api/health",)) is None and processes.is_alive(self.process):
                return None
            ended = patience.ended(IDLE_SECONDS)
            if ended is not None:
                return ended
            time.sleep(_POLL_SECONDS)

    def _kill(self) -> None:
        if self.process is not None:
            processes.kill(self.process)
            self.process = None

    def _drop_logs(self) -> None:
        """Those of commands that were killed."""
        import psutil

        for log in self.folder.glob("temporary-*.log*"):
            owner = log.name.split("-")[1].partition(".")[0]
            if owner.isdecimal() and not psutil.pid_exists(int(owner)):
                log.unlink(missing_ok=True)


def left_behind() -> Iterator[tuple[psutil.Process, str]]:
    """Temporary servers of this user whose command is gone, Prefect's own ones as well, and what they listen on."""
    import psutil

    for process in psutil.process_iter():
        with suppress(psutil.Error):
            command = process.cmdline()
            ours = command[-3:-2] == [PROGRAM] and command[-1] != str(process.ppid())
            if ours or (PREFECTS_OWN in command and not _is_python(process.parent())):
                ports = [
                    connection.laddr.port
                    for connection in process.net_connections("tcp")
                    if connection.status == "LISTEN"
                ]
                yield process, ", ".join(f"{HOST}:{port}" for port in ports) or "no port"


def _is_python(process: psutil.Process | None) -> bool:
    return process is not None and "python" in Path(process.exe()).name


def _require_disk(folder: Path, message: str) -> None:
    """Raises StorageError if the disk of `folder` is full, or what failed said so; there may be room again by now."""
    require_room(folder)
    if any(text in message for text in _FULL):
        raise StorageError(
            expected=f"room for Prefect's database in {folder}",
            found=f"the disk was full; the temporary server's log ends with:\n{message}",
            remedy="free space, or choose another place with REGIOLECT_HOME",
        )

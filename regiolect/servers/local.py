"""The set of local servers: brought up, looked at, taken down; their places and data are the same every time."""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from regiolect.contracts import Contract
from regiolect.errors import ServerFailed, UsageError
from regiolect.host.interrupts import spare
from regiolect.host.waiting import alone
from regiolect.policy import PolicyBook
from regiolect.progress import note
from regiolect.servers import object_store, orchestration, processes, tracking
from regiolect.servers.catalog import CATALOG, NAMES, STAGES, require_names, server_of, with_needs
from regiolect.servers.credentials import keep_credentials
from regiolect.servers.files import cannot_write, make_folder, write_private
from regiolect.servers.parts import require_parts
from regiolect.servers.ports import becomes_free, choose_ports, is_free
from regiolect.servers.processes import Patience, ProcessId
from regiolect.servers.server import Place, Server
from regiolect.servers.state import ServerState, State, read_state, write_state

T = TypeVar("T")

_STORE = "s3://regiolect-{region}/store"
_POLL_SECONDS = 0.1
# How long a server that runs but does not answer is waited for before it is started anew.
_PATIENCE_SECONDS = 10.0
# Another command that starts all of them takes minutes on a slow machine.
_OTHERS_SECONDS = 900.0


@dataclass(frozen=True)
class Status:
    """What is true of one server now.

    problem: what is wrong with it; None if it answers as it should.
    seconds: from its start until it answered, if this call started it.
    """

    name: str
    address: str | None
    pid: int | None
    problem: str | None
    log: Path
    seconds: float | None = None


class ServersStatus(Contract):
    """What is true of all servers of a home now, and the file that tells a shell of them."""

    format: Literal[1] = 1
    servers: tuple[Status, ...]
    env_file: Path


class LocalServers:
    """PostgreSQL, S3, MLflow and Prefect of one home. Several objects and processes may use the same home.

    Args:
        home: folder of everything that Regiolect writes; the servers' part is its folder `servers`.
        policies: folder of region policies, the built-in ones if None: every region gets a bucket.
        usual_ports: False to leave the usual ports alone and take any free ones the first time.
    """

    def __init__(self, home: Path, policies: Path | None = None, *, usual_ports: bool = True) -> None:
        self.root = home.absolute() / "servers"
        self._policies = policies
        self._usual_ports = usual_ports
        self._state_lock = threading.Lock()

    @property
    def env_file(self) -> Path:
        """A shell file that exports `environment()`; written by `up`, readable by its owner alone."""
        return self.root / "env.sh"

    def up(self, only: Sequence[str] | None = None) -> tuple[Status, ...]:
        """Bring servers up and return when all of them answer. What runs and answers is left alone.

        Args:
            only: names (NAMES) of the servers that are wanted, with what they need; all of them if None.

        Raises:
            UsageError: no server has such a name.
            BackendUnavailable: a part is not installed.
            ServerFailed: one did not start; those that this call started are stopped again.
            StorageError: the home cannot be written.
        """
        wanted = with_needs(NAMES if only is None else only)
        require_parts(wanted)
        make_folder(self.root)
        make_folder(self.root / "logs")
        with self._locked():
            try:
                started = self._bring_all_up(wanted)
            except ServerFailed:
                if not self._lost_a_port(wanted):
                    raise
                note("another program took a port before its server did; once more, on others")
                started = self._bring_all_up(wanted)
            self._write_env_file()
            return started

    def down(self) -> tuple[str, ...]:
        """Stop every server that runs, cleanly; their data stays. Returns the names of those that ran.

        Raises:
            BackendUnavailable: psutil is not installed.
        """
        require_parts(())
        if not self.root.exists():
            return ()
        with self._locked():
            running = tuple(name for name in NAMES if self._pid(name) is not None)
            self._stop(running)
            return running

    def status(self) -> tuple[Status, ...]:
        """Ask every server how it is. Starts and changes nothing.

        Raises:
            BackendUnavailable: psutil is not installed.
        """
        require_parts(())
        state = read_state(self._state_file)
        if not state.servers:
            return tuple(Status(name, None, None, "never started", self._log(name)) for name in NAMES)
        place = self._place(state)
        return tuple(_side_by_side(lambda name: self._status(place, name), NAMES))

    def start(self, name: str) -> Status:
        """Start one server that was up before, alone and on its own ports, and wait until it answers.

        Raises:
            UsageError: no server has that name, or it was never up.
            ServerFailed: it did not start.
        """
        with self._locked():
            server = self._known(name)
            seconds: dict[str, float] = {}
            self._bring_up(server, seconds)
            return Status(name, server.address, self._pid(name), None, server.log, seconds.get(name))

    def stop(self, name: str) -> None:
        """Stop one server cleanly. Nothing happens if it does not run. Raises UsageError if it was never up."""
        with self._locked():
            self._stop((self._known(name).name,))

    def kill(self, name: str) -> None:
        """Kill one server and everything it started at once (SIGKILL), as a fault would.

        Raises UsageError if it was never up.
        """
        with self._locked():
            self._known(name)
            process = self._state().servers[name].process
            if process is not None:
                processes.kill(process)

    def environment(self) -> dict[str, str]:
        """What a client's environment must say to use the servers that were brought up; holds secrets."""
        state = read_state(self._state_file)
        place = self._place(state)
        variables: dict[str, str] = {}
        if orchestration.NAME in state.servers:
            variables |= orchestration.client_environment(place)
        if tracking.NAME in state.servers:
            variables |= tracking.client_environment(place)
        if object_store.NAME in state.servers:
            variables |= {"REGIOLECT_STORE": _STORE, **object_store.client_environment(place)}
        return variables

    # ------------------------------------------------------------------------------------------------ one server

    def _bring_all_up(self, wanted: Sequence[str]) -> tuple[Status, ...]:
        place = replace(self._assign(wanted), buckets=self._buckets())
        seconds: dict[str, float] = {}
        try:
            for stage in STAGES:
                names = [name for name in stage if name in wanted]
                _side_by_side(lambda name: self._bring_up(server_of(place, name), seconds), names)
        except BaseException:
            self._stop(tuple(seconds))
            raise
        return tuple(
            Status(server.name, server.address, self._pid(server.name), None, server.log, seconds.get(server.name))
            for server in (server_of(place, name) for name in wanted)
        )

    def _lost_a_port(self, names: Sequence[str]) -> bool:
        """Whether a port of a server that does not run was taken after it was chosen."""
        state = self._state()
        idle = [state.servers[name].ports.values() for name in names if self._pid(name) is None]
        return not all(becomes_free(port) for ports in idle for port in ports)

    def _bring_up(self, server: Server, seconds: dict[str, float]) -> None:
        """Make sure that one server answers. Puts it into `seconds` if it had to be started."""
        state = self._state().servers[server.name]
        if state.process is not None and processes.is_alive(state.process):
            # One that was started otherwise than it would be now may talk to an address where nobody is any more.
            if state.recipe == server.recipe() and _comes_to(server, state.process):
                server.after()
                return
            processes.end(state.process, server.stop_signal, server.stop_seconds)
        begin = time.monotonic()
        seconds[server.name] = 0.0
        make_folder(server.folder)
        try:
            server.before()
        except OSError as error:
            raise cannot_write(server.folder, error) from error
        self._wait_until_well(server, self._launch(server))
        server.after()
        seconds[server.name] = time.monotonic() - begin
        note(f"{server.name} answers at {server.address} after {seconds[server.name]:.1f} s")

    def _launch(self, server: Server) -> ProcessId:
        try:
            process = processes.launch(server.command, server.whole_environment(), server.folder, server.log)
        except OSError as error:
            raise ServerFailed(
                expected=f"to start {server.name}: {server.command[0]}",
                found=f"{error.strerror or error} ({type(error).__name__})",
                remedy="pip install 'regiolect[servers]'; the program and its folder must be readable",
            ) from error
        spare(process.pid)
        self._remember(server.name, process, server.recipe())
        return process

    def _wait_until_well(self, server: Server, process: ProcessId) -> None:
        patience = Patience(process, server.name)
        while True:
            if not processes.is_alive(process):
                raise self._failed(server, f"it ended with exit code {processes.exit_code(process)}")
            problem = server.check()
            # Asked once more: an answer may have come from another program that was there first.
            if problem is None and processes.is_alive(process):
                return
            ended = patience.ended(server.start_seconds)
            if ended is not None:
                raise self._failed(server, f"{ended}: {problem}")
            time.sleep(_POLL_SECONDS)

    def _failed(self, server: Server, what: str) -> ServerFailed:
        credentials = keep_credentials(self._credentials_file)
        lines = processes.last_lines(server.log) or "(nothing)"
        return ServerFailed(
            expected=f"{server.name} to answer at {server.address}",
            found=credentials.hide(f"{what}; its log ends with:\n{lines}"),
            remedy=f"see {server.log}; mend what it names, then: regiolect up",
        )

    def _status(self, place: Place, name: str) -> Status:
        if name not in place.ports:
            return Status(name, None, None, "never started", self._log(name))
        server = server_of(place, name)
        pid = self._pid(name)
        problem = "not running" if pid is None else server.check()
        return Status(name, server.address, pid, problem, server.log)

    def _stop(self, names: Iterable[str]) -> None:
        state = self._state()
        place = self._place(state)
        for stage in reversed(STAGES):
            running = [name for name in stage if name in names]
            _side_by_side(lambda name: self._stop_one(server_of(place, name), state.servers[name].process), running)

    def _stop_one(self, server: Server, process: ProcessId | None) -> None:
        if process is not None:
            processes.end(process, server.stop_signal, server.stop_seconds)
        self._remember(server.name, None)

    # ------------------------------------------------------------------------------------------ what is remembered

    @property
    def _state_file(self) -> Path:
        return self.root / "state.json"

    @property
    def _credentials_file(self) -> Path:
        return self.root / "credentials.json"

    def _log(self, name: str) -> Path:
        return self.root / "logs" / f"{name}.log"

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One command at a time changes the servers of a home, whichever process it comes from."""
        if not self.root.exists():
            raise UsageError(
                expected=f"servers below {self.root}",
                found="no such folder",
                remedy="regiolect up, or set REGIOLECT_HOME to the folder where they are",
            )
        what = f"to change the servers below {self.root}"
        with ExitStack() as stack:
            try:
                stack.enter_context(alone(self.root / "lock", what, _OTHERS_SECONDS))
            except OSError as error:
                raise cannot_write(self.root / "lock", error) from error
            yield

    def _state(self) -> State:
        with self._state_lock:
            return read_state(self._state_file)

    def _remember(self, name: str, process: ProcessId | None, recipe: str | None = None) -> None:
        with self._state_lock:
            state = read_state(self._state_file)
            server = ServerState(ports=state.servers[name].ports, process=process, recipe=recipe)
            write_state(self._state_file, state.with_server(name, server))

    def _pid(self, name: str) -> int | None:
        server = self._state().servers.get(name)
        if server is None or server.process is None or not processes.is_alive(server.process):
            return None
        return server.process.pid

    def _known(self, name: str) -> Server:
        require_names((name,))
        state = self._state()
        if name not in state.servers:
            raise UsageError(
                expected=f"{name} to have been up before",
                found=f"no address of it in {self._state_file}",
                remedy="regiolect up",
            )
        return server_of(self._place(state), name)

    def _place(self, state: State) -> Place:
        return Place(
            root=self.root,
            credentials=keep_credentials(self._credentials_file),
            ports={name: server.ports for name, server in state.servers.items()},
        )

    def _buckets(self) -> tuple[str, ...]:
        regions = PolicyBook(self._policies).regions()
        return ("regiolect-shared", *(f"regiolect-{region}" for region in regions), tracking.BUCKET)

    def _assign(self, names: Sequence[str]) -> Place:
        """Ports for the servers that do not run: those of last time; others where somebody else listens by now."""
        state = self._state()
        for name in names:
            if self._pid(name) is not None:
                continue
            last = state.servers.get(name)
            taken = {port for other in state.servers.values() for port in other.ports.values()}
            if last is None:
                ports = choose_ports(CATALOG[name].ports, taken, is_free if self._usual_ports else lambda _: False)
            else:
                others = taken - set(last.ports.values())
                ports = choose_ports({**CATALOG[name].ports, **last.ports}, others, becomes_free)
                for use in last.ports:
                    if ports[use] != last.ports[use]:
                        note(f"{name} moves to port {ports[use]}: another program has {last.ports[use]} ({use})")
            state = state.with_server(name, ServerState(ports=ports))
        write_state(self._state_file, state)
        return self._place(state)

    def _write_env_file(self) -> None:
        lines = [
            # A session token or profile of another account would be sent along with these keys.
            "unset AWS_SESSION_TOKEN AWS_PROFILE",
            # A worker may be started anywhere; its home is this one.
            f"export REGIOLECT_HOME={shlex.quote(str(self.root.parent))}",
            *(f"export {name}={shlex.quote(value)}" for name, value in self.environment().items()),
        ]
        write_private(self.env_file, "\n".join(lines) + "\n")


def _comes_to(server: Server, process: ProcessId) -> bool:
    """Whether a server that runs answers, now or soon: it may be on its way up."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while server.check() is not None:
        if time.monotonic() > deadline or not processes.is_alive(process):
            return False
        time.sleep(_POLL_SECONDS)
    return True


def _side_by_side(work: Callable[[str], T], names: Sequence[str]) -> list[T]:
    """Call `work` for every name at once; waits for all of them, then raises the first error, if any."""
    if not names:
        return []
    with ThreadPoolExecutor(len(names)) as pool:
        calls = [pool.submit(work, name) for name in names]
    return [call.result() for call in calls]

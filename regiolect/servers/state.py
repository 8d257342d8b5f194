"""What is remembered of the local servers between two commands: ports, and which process is which."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from regiolect.errors import StorageError
from regiolect.host.files import NOTE, read_file
from regiolect.servers.files import write_private
from regiolect.servers.processes import ProcessId


class ServerState(BaseModel):
    """One server's ports by their use and, once it was started, its process and what it was started with."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    ports: dict[str, int]
    process: ProcessId | None = None
    recipe: str | None = None


class State(BaseModel):
    """Every server that was ever brought up here."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    servers: dict[str, ServerState] = {}

    def with_server(self, name: str, server: ServerState) -> State:
        return self.model_copy(update={"servers": {**self.servers, name: server}})


def read_state(path: Path) -> State:
    """The state kept at `path`, an empty one where there is none.

    Raises:
        StorageError: the file cannot be read or is not a state. Nothing is guessed from a damaged one: a server that
            still runs would be started a second time on the same data.
    """
    try:
        return State.model_validate_json(read_file(path, NOTE))
    except FileNotFoundError:
        return State()
    except (OSError, ValidationError) as error:
        raise StorageError(
            expected=f"the local servers' state in {path}",
            found=f"a file that cannot be read as such ({type(error).__name__})",
            remedy="end the servers by hand, then delete the file; their data and credentials stay",
        ) from error


def write_state(path: Path, state: State) -> None:
    """Keep `state` at `path`. Raises StorageError when that cannot be written."""
    write_private(path, state.model_dump_json(indent=2))

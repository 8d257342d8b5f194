"""Secrets of the local servers: random, made once, in a file that only its owner may read."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regiolect.errors import StorageError, UnusableFile
from regiolect.host.guarded import read_secret
from regiolect.host.waiting import alone
from regiolect.integrity import parse_json
from regiolect.servers.files import cannot_write, write_private

# What takes part in a secret's place where one would be shown.
HIDDEN = "***"
_LOCK_SECONDS = 30.0


class Credentials(BaseModel):
    """Every secret. None of them is part of a repr, a command line or a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key: str = Field(default_factory=lambda: f"RL{secrets.token_hex(9).upper()}", repr=False)
    secret_key: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    database_password: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    # The object store's inner servers ask each other for tokens that this key signs.
    inner_key: str = Field(default_factory=lambda: secrets.token_hex(32), repr=False)
    # Of the logins to Prefect and to MLflow.
    prefect_password: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    mlflow_password: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    # MLflow's pages sign their forms with it.
    form_key: str = Field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def hide(self, text: str) -> str:
        """`text` without any of the secrets."""
        for secret in self.model_dump().values():
            text = text.replace(secret, HIDDEN)
        return text


def keep_credentials(path: Path) -> Credentials:
    """The credentials kept at `path`. What is not there yet is made and kept: all of them the first time, later what a
    newer version needs more.

    Raises:
        StorageError: the file cannot be read or written, or was damaged.
        Busy: another process is at it for half a minute.
    """
    kept = _read(path)
    if kept is not None and set(kept) == set(Credentials.model_fields):
        return _validated(path, kept)
    # Two processes that find the same thing missing must not make it twice.
    try:
        with alone(path.with_suffix(".lock"), f"to make {path}", _LOCK_SECONDS):
            made = _validated(path, _read(path) or {})
            write_private(path, made.model_dump_json())
    except OSError as error:
        raise cannot_write(path, error) from error
    return made


def _read(path: Path) -> dict[str, object] | None:
    try:
        content = parse_json(read_secret(path))
    except FileNotFoundError:
        return None
    except UnusableFile as error:
        raise StorageError(error.expected, error.found, error.remedy) from None
    except (OSError, ValueError) as error:
        raise _damaged(path, error) from None
    return content if isinstance(content, dict) else {"": content}


def _validated(path: Path, content: dict[str, object]) -> Credentials:
    try:
        return Credentials.model_validate(content)
    except ValidationError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> StorageError:
    # A validation error repeats what it read: only its kind is passed on, and it is not kept as the cause.
    return StorageError(
        expected=f"the local servers' credentials in {path}",
        found=f"a file that cannot be read as such ({type(error).__name__})",
        remedy=f"restore it from a backup; without it, the data below {path.parent} cannot be opened: move that "
        "folder aside, and new servers with new credentials are made",
    )

"""Secrets of the local servers: random, made once, in a file that only its owner may read."""

from __future__ import annotations

import secrets
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from regiolect.errors import StorageError, UnusableFile
from regiolect.guarded import read_secret
from regiolect.servers.files import write_private

# What takes part in a secret's place where one would be shown.
HIDDEN = "***"


class Credentials(BaseModel):
    """Every secret. None of them is part of a repr, a command line or a log."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_key: str = Field(default_factory=lambda: f"RL{secrets.token_hex(9).upper()}", repr=False)
    secret_key: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    database_password: str = Field(default_factory=lambda: secrets.token_hex(20), repr=False)
    # The object store's inner servers ask each other for tokens that this key signs.
    inner_key: str = Field(default_factory=lambda: secrets.token_hex(32), repr=False)

    def hide(self, text: str) -> str:
        """`text` without any of the secrets."""
        for secret in self.model_dump().values():
            text = text.replace(secret, HIDDEN)
        return text


def keep_credentials(path: Path) -> Credentials:
    """The credentials kept at `path`; new ones are made and kept there the first time.

    Raises:
        StorageError: the file cannot be read or written, was damaged, or can be read by others.
    """
    try:
        return Credentials.model_validate_json(read_secret(path))
    except FileNotFoundError:
        made = Credentials()
        write_private(path, made.model_dump_json())
        return made
    except UnusableFile as error:
        raise StorageError(error.expected, error.found, error.remedy) from None
    except (OSError, ValidationError) as error:
        # A validation error repeats what it read: only its kind is passed on, and it is not kept as the cause.
        raise StorageError(
            expected=f"the local servers' credentials in {path}",
            found=f"a file that cannot be read as such ({type(error).__name__})",
            remedy=f"restore it from a backup; without it, the data below {path.parent} cannot be opened: move that "
            "folder aside, and new servers with new credentials are made",
        ) from None

"""The trust file: public keys whose signatures count here, and those that no longer do.

JSON, format 1, nothing secret in it. Whoever loads engines needs a copy; whoever can write it decides what is loaded.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import AwareDatetime, Field, ValidationError, model_validator
from securesystemslib.signer import SSlibKey

from regiolect.contracts import Contract
from regiolect.errors import NoTrust, UnusableFile
from regiolect.host.guarded import read_guarded
from regiolect.integrity import write_atomic

KeyId = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="sha256 of the public key")]


class KeyState(StrEnum):
    """What a key's signatures are worth.

    active: all count.
    retired: those made before its retirement count.
    revoked: none counts, whenever it was made.
    """

    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


class TrustedKey(Contract):
    """A public key, whose it is, and what its signatures are worth."""

    keyid: KeyId
    keytype: Literal["ed25519"] = "ed25519"
    scheme: Literal["ed25519"] = "ed25519"
    public: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$", description="the public key, hexadecimal")]
    comment: str = Field(default="", description="whose it is, for people")
    made: AwareDatetime
    state: KeyState = KeyState.ACTIVE
    ended: AwareDatetime | None = Field(default=None, description="when it was retired or revoked")
    reason: str = Field(default="", description="why it was revoked")

    @model_validator(mode="after")
    def _is_what_it_says(self) -> Self:
        public = Ed25519PublicKey.from_public_bytes(bytes.fromhex(self.public))
        if SSlibKey.from_crypto(public).keyid != self.keyid:
            raise ValueError(f"{self.keyid} is not the id of this public key")
        if (self.ended is None) is not (self.state is KeyState.ACTIVE):
            raise ValueError(f"a key that is {self.state} {'has' if self.ended else 'needs'} a time when that began")
        return self

    def verifier(self) -> SSlibKey:
        """The key, for verifying with."""
        return SSlibKey(self.keyid, self.keytype, self.scheme, {"public": self.public})

    @property
    def short(self) -> str:
        """What people call it by."""
        return self.keyid[:12]

    def who(self) -> str:
        """`release of eu (0123456789ab)`."""
        return f"{self.comment} ({self.short})" if self.comment else self.short


class Trust(Contract):
    """All keys that were ever trusted here."""

    format: Literal[1] = 1
    keys: tuple[TrustedKey, ...] = ()

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        ids = [key.keyid for key in self.keys]
        if len(set(ids)) != len(ids):
            raise ValueError("a key is there twice")
        return self

    def key(self, keyid: str) -> TrustedKey | None:
        """The key of that id, or None."""
        return next((key for key in self.keys if key.keyid == keyid), None)

    def with_key(self, key: TrustedKey) -> Trust:
        """The same with a key added, or in place of what was said of it before."""
        others = tuple(each for each in self.keys if each.keyid != key.keyid)
        return Trust(keys=(*others, key))


def load_trust(path: Path) -> Trust:
    """What a trust file says.

    Raises:
        NoTrust: there is none, it is damaged or of another format, or others can change it. Nobody is trusted then.
    """
    expected = f"a trust file of format 1 at {path}"
    try:
        return Trust.model_validate_json(read_guarded(path))
    except FileNotFoundError as error:
        raise NoTrust(
            expected=expected,
            found="no such file",
            remedy="copy the trust file of those who release to there, or name it in REGIOLECT_TRUST; whoever releases "
            "makes one with: regiolect keys create",
        ) from error
    except UnusableFile as error:
        raise NoTrust(error.expected, error.found, error.remedy) from error
    except OSError as error:
        raise NoTrust(
            expected, f"{error.strerror or error} ({type(error).__name__})", "mend its permissions"
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise NoTrust(
            expected=expected,
            found=f"{where}: {first['msg']}" if where else first["msg"],
            remedy="fetch it again from those who release, or upgrade Regiolect if it is of a newer format",
        ) from error


def write_trust(path: Path, trust: Trust) -> None:
    """Write a trust file, whole or not at all, for everybody to read.

    Raises:
        StorageError: it cannot be written.
    """
    write_atomic(path, (trust.model_dump_json(indent=2) + "\n").encode())

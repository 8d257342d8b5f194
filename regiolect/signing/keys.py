"""The private key of releases: ed25519, in a PEM file that its owner alone can read."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner

from regiolect.errors import InvalidSigningKey, NoSigningKey, StorageError, UnusableFile, UsageError
from regiolect.host.guarded import make_guarded, read_secret

CREATE = "regiolect keys create"


def new_key() -> CryptoSigner:
    """A new private key, in memory alone."""
    return CryptoSigner.generate_ed25519()


def load_key(path: Path) -> CryptoSigner:
    """The private key in a file.

    Raises:
        NoSigningKey: there is no such file.
        InvalidSigningKey: it cannot be read, holds no ed25519 key without a password, or others can read or change it.
    """
    expected = f"an ed25519 private key as PEM in {path}"
    try:
        private = load_pem_private_key(read_secret(path), None)
    except FileNotFoundError as error:
        raise NoSigningKey(
            expected=f"a key to sign decisions with, in {path}",
            found="no such file",
            remedy=f"{CREATE}, or name another file in REGIOLECT_SIGNING_KEY",
        ) from error
    except UnusableFile as error:
        raise InvalidSigningKey(error.expected, error.found, error.remedy) from error
    except OSError as error:
        found = f"{error.strerror or error} ({type(error).__name__})"
        raise InvalidSigningKey(expected, found, "let the account that releases read it, and nobody else") from error
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        # What the file holds is no part of the message.
        remedy = f"restore it from a backup, or move it aside and run: {CREATE}"
        raise InvalidSigningKey(expected, "a file that is none, or one with a password", remedy) from error
    if not isinstance(private, Ed25519PrivateKey):
        raise InvalidSigningKey(expected, "a key of another kind", f"move it aside and run: {CREATE}")
    return CryptoSigner(private)


def write_key(path: Path, signer: CryptoSigner, *, replace: bool = False) -> None:
    """Write a private key whole or not at all, readable by its owner alone, in a folder that only the owner can open.

    A folder that is there keeps its mode.

    Args:
        replace: take the place of an older key; otherwise a file that is there stays.

    Raises:
        UsageError: there is a file, and it is not to be replaced.
        StorageError: it cannot be written.
    """
    try:
        make_guarded(path.parent)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            # mkstemp makes files with mode 0600.
            with os.fdopen(handle, "wb") as file:
                file.write(signer.private_bytes)
                file.flush()
                os.fsync(file.fileno())
            if replace:
                Path(name).replace(path)
            elif not _linked(name, path):
                raise UsageError(
                    expected=f"no key at {path} yet",
                    found="a file",
                    remedy="put another one in its place with: regiolect keys rotate",
                )
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(
            expected=f"to write {path}",
            found=f"{error.strerror or error} ({type(error).__name__})",
            remedy=f"mend the permissions of {path.parent}, or name another file in REGIOLECT_SIGNING_KEY",
        ) from error


def _linked(name: str, path: Path) -> bool:
    """Give a file a second name, unless that is taken."""
    try:
        os.link(name, path)
    except FileExistsError:
        return False
    return True

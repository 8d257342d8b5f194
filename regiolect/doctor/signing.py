"""Whether what this machine releases will be loaded: the signing key and the trust file."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from regiolect.doctor.finding import Finding, note, ok
from regiolect.settings import Settings


def keys(settings: Settings) -> Iterator[Finding]:
    """Whether there is a key that its owner alone can read, and whose signatures count here.

    Raises:
        SigningError, UntrustedEngine: there is none, or they do not.
    """
    name, keyring = "signing key", settings.keyring()
    expected = f"a key in {keyring.key} that only its owner can read, active in {keyring.trust}"
    if not keyring.key.exists():
        if keyring.by_default:
            yield note(name, expected, "none yet: the first release on this machine makes one", _HOW)
            return
        if keyring.trust.exists():
            count = len(keyring.load_trust().keys)
            yield note(name, expected, f"no key, so nothing is released from here; keys trusted: {count}", _HOW)
            return
    public = keyring.signer().public_key
    mode = stat.S_IMODE(keyring.key.stat().st_mode)
    if os.name == "posix" and mode & 0o070:
        # As Kubernetes mounts a secret; what is worse is refused when the key is used.
        found = f"{public.keyid[:12]}, which its group can read: its file's mode is {mode:04o}"
        yield note(name, expected, found, f"chmod 600 {keyring.key}")
        return
    yield ok(name, expected, public.keyid[:12])


_HOW = "regiolect keys create, or copy key and trust file from where releases run: see docs/signing.md"

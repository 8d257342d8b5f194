"""Where the key and the trust file lie, and what is done with them."""

from __future__ import annotations

import getpass
import os
import socket
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from regiolect.errors import InvalidSetting, NoTrust, RetiredKey, RevokedKey, StorageError, UnknownKey, UsageError
from regiolect.host.guarded import make_guarded
from regiolect.host.waiting import alone
from regiolect.signing.keys import CREATE, load_key, new_key, write_key
from regiolect.signing.trust import KeyState, Trust, TrustedKey, load_trust, write_trust

KEY_SETTING, TRUST_SETTING = "REGIOLECT_SIGNING_KEY", "REGIOLECT_TRUST"
_LOCK_SECONDS = 30.0


def default_folder() -> Path:
    """`regiolect/keys` in the user's configuration directory.

    Raises:
        InvalidSetting: nobody knows where that is.
    """
    given = os.environ.get("XDG_CONFIG_HOME")
    try:
        configuration = Path(given).expanduser() if given else Path.home() / ".config"
    except RuntimeError as error:
        raise InvalidSetting(
            expected="a home directory for the user that this process runs as",
            found=str(error),
            remedy=f"name files in {KEY_SETTING} and {TRUST_SETTING}, or a folder in XDG_CONFIG_HOME",
        ) from error
    return configuration.absolute() / "regiolect" / "keys"


@dataclass(frozen=True)
class Keyring:
    """A private key's file, and a trust file.

    by_default: neither was named by anybody, so that the first release may make both.
    """

    key: Path
    trust: Path
    by_default: bool = False

    @classmethod
    def at(cls, key: Path | None, trust: Path | None) -> Keyring:
        """Named files; what is not named lies in the default folder."""
        return cls(
            key=key or default_folder() / "signing-key.pem",
            trust=trust or default_folder() / "trust.json",
            by_default=key is None and trust is None,
        )

    @classmethod
    def of_environment(cls) -> Keyring:
        """The files that REGIOLECT_SIGNING_KEY and REGIOLECT_TRUST name."""
        key, trust = (os.environ.get(name) for name in (KEY_SETTING, TRUST_SETTING))
        return cls.at(*(Path(each).expanduser().absolute() if each else None for each in (key, trust)))

    def load_trust(self) -> Trust:
        """Raises NoTrust if there is no trust file that can be read."""
        return load_trust(self.trust)

    def trust_or_nobody(self) -> Trust:
        """The trust file; where there is none yet, nobody is trusted.

        Raises:
            NoTrust: it cannot be read.
        """
        return self.load_trust() if self.trust.exists() else Trust()

    def signer(self) -> CryptoSigner:
        """The key that releases sign with, if its signatures count here.

        Raises:
            NoSigningKey, InvalidSigningKey: there is none that can be used.
            NoTrust: there is no trust file that can be read.
            UnknownKey, RetiredKey, RevokedKey: what it would sign, nobody would load.
        """
        signer = load_key(self.key)
        keyid = signer.public_key.keyid
        trusted = self.load_trust().key(keyid)
        expected = f"the key in {self.key} to be active in {self.trust}"
        if trusted is None:
            raise UnknownKey(expected, f"{keyid[:12]}, which is not in there", f"add it with: {CREATE}")
        if trusted.state is not KeyState.ACTIVE:
            kind = RevokedKey if trusted.state is KeyState.REVOKED else RetiredKey
            raise kind(expected, f"{trusted.who()}, {trusted.state} {trusted.ended:%Y-%m-%d}", "regiolect keys rotate")
        return signer

    def ready(self, say: Callable[[str], None]) -> CryptoSigner:
        """`signer`, for a release: the first one on a machine where nothing was set up makes a key, and says so.

        Args:
            say: told what was made.

        Raises:
            As `signer`; StorageError if nothing can be written.
        """
        if self.by_default and not (self.key.exists() and self.trust.exists()):
            # Another process may be at it: between its two files there is a key and no trust file yet.
            with self._alone():
                made = None if self.key.exists() else self._created("")
            if made is not None:
                say(f"made a key to sign decisions with, {made.short}, in {self.key.parent}: see docs/signing.md")
        try:
            return self.signer()
        except NoTrust as error:
            if self.trust.exists():
                raise
            raise NoTrust(error.expected, error.found, f"make it with: {CREATE}") from error

    # ------------------------------------------------------------------------------------------ what people do

    def create(self, comment: str) -> TrustedKey:
        """Make a key and have it trusted here. A key that is there and not in the trust file is only added to it.

        Args:
            comment: whose it is; user and machine when empty.

        Raises:
            UsageError: there is a key, and the trust file knows it.
            InvalidSigningKey, NoTrust, StorageError.
        """
        with self._alone():
            if self.key.exists():
                trust = self.trust_or_nobody()
                signer = load_key(self.key)
                trusted = trust.key(signer.public_key.keyid)
                if trusted is not None:
                    raise UsageError(
                        expected=f"no key in {self.key}, or one that {self.trust} does not know yet",
                        found=f"{trusted.who()}, {trusted.state}",
                        remedy="put another one in its place with: regiolect keys rotate",
                    )
                return self._trusted(trust, signer, comment)
            return self._created(comment)

    def rotate(self, comment: str) -> tuple[TrustedKey, TrustedKey | None]:
        """Make a new key in place of the old one, which is retired; its private part is gone.

        Returns:
            The new key and the old one, None if the trust file did not know it.

        Raises:
            NoSigningKey, InvalidSigningKey, NoTrust, StorageError.
        """
        with self._alone():
            trust = self.load_trust()
            old = trust.key(load_key(self.key).public_key.keyid)
            signer = new_key()
            # Trusted first, so that a crash in between leaves a key whose signatures count.
            made = self._trusted(trust, signer, comment or (old.comment if old else ""))
            write_key(self.key, signer, replace=True)
            if old is not None and old.state is KeyState.ACTIVE:
                old = self._ended(old, KeyState.RETIRED, "")
            return made, old

    def retire(self, start: str) -> TrustedKey:
        """What the key signs from now on no longer counts.

        Args:
            start: the first digits of its id, enough to tell it from others.

        Raises:
            UsageError: no such key, or it is not active.
        """
        with self._alone():
            key = self._named(start)
            if key.state is not KeyState.ACTIVE:
                raise UsageError(f"an active key {key.short}", f"one that is {key.state}", "nothing is to be done")
            return self._ended(key, KeyState.RETIRED, "")

    def revoke(self, start: str, reason: str) -> TrustedKey:
        """Nothing that the key ever signed counts any more.

        Args:
            start: as for `retire`.
            reason: why, kept with the key.

        Raises:
            UsageError: no such key, or it is revoked already.
        """
        with self._alone():
            key = self._named(start)
            if key.state is KeyState.REVOKED:
                raise UsageError(f"a key {key.short} that counts", f"revoked: {key.reason}", "nothing is to be done")
            return self._ended(key, KeyState.REVOKED, reason)

    def _named(self, start: str) -> TrustedKey:
        keys = self.load_trust().keys
        matches = [key for key in keys if len(start) >= 4 and key.keyid.startswith(start)]
        if len(matches) != 1:
            raise UsageError(
                expected=f"the first digits, four or more, of one key in {self.trust}",
                found=f"{start!r}; there are {', '.join(key.short for key in keys) or 'none'}",
                remedy="see them with: regiolect keys list",
            )
        return matches[0]

    def _created(self, comment: str) -> TrustedKey:
        trust = self.trust_or_nobody()
        signer = new_key()
        write_key(self.key, signer)
        return self._trusted(trust, signer, comment)

    def _trusted(self, trust: Trust, signer: CryptoSigner, comment: str) -> TrustedKey:
        public = signer.public_key
        key = TrustedKey(
            keyid=public.keyid, public=public.keyval["public"], comment=comment or account(), made=datetime.now(UTC)
        )
        write_trust(self.trust, trust.with_key(key))
        return key

    def _ended(self, key: TrustedKey, state: KeyState, reason: str) -> TrustedKey:
        changes = {"state": state, "ended": datetime.now(UTC), "reason": reason}
        ended = TrustedKey.model_validate({**key.model_dump(), **changes})
        write_trust(self.trust, self.load_trust().with_key(ended))
        return ended

    def _alone(self) -> AbstractContextManager[None]:
        folder = self.trust.parent
        try:
            make_guarded(folder)
        except OSError as error:
            raise StorageError(
                expected=f"to write {folder}",
                found=f"{error.strerror or error} ({type(error).__name__})",
                remedy=f"mend its permissions, or name other files in {KEY_SETTING} and {TRUST_SETTING}",
            ) from error
        return alone(folder / f"{self.trust.name}.lock", f"to change {self.trust}", _LOCK_SECONDS)


def account() -> str:
    """`user@machine`, as whom this process acts."""
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        # A user id without a name, as in containers.
        return socket.gethostname()

"""An in-toto statement in a DSSE envelope: signed, and opened by a key that is trusted.

Sources: in-toto Attestation Framework, Statement v1; Dead Simple Signing Envelope, v1.0.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import FormatError, UnverifiedSignatureError
from securesystemslib.signer import Signature, Signer

from regiolect.contracts import Contract
from regiolect.errors import RetiredKey, RevokedKey, SignatureMismatch, StatementMismatch, UnknownKey, UnsignedEngine
from regiolect.integrity import canonical_json, digest_of, parse_json
from regiolect.signing.trust import KeyState, Trust, TrustedKey
from regiolect.storage import Store

PAYLOAD_TYPE = "application/vnd.in-toto+json"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
# The statement's time of signing, in its predicate.
SIGNED = "signed"

_SIGNATURES = "signatures"
_TOLD = 6  # differences that an error names
# Parts of a place in a statement that tell people nothing.
_FRAME = frozenset({"predicate", "digests", "digest", "subject"})
_REMEDY = "do not use this engine; fetch it again from the registry, or release the region again"
Statement = Mapping[str, Any]


class KeptSignature(Contract):
    """An envelope in the store, so that what did not change is signed once."""

    envelope: str


@dataclass(frozen=True)
class Opened:
    """A statement that a trusted key signed.

    signed: when, by the signer's clock.
    """

    statement: Statement
    key: TrustedKey
    signed: datetime


def statement(predicate_type: str, subjects: Mapping[str, str], predicate: Mapping[str, Any]) -> Statement:
    """An in-toto statement, without its time of signing.

    Args:
        predicate_type: a URI with a version.
        subjects: what it is about: digests by name.
        predicate: what is said of them; JSON.
    """
    return {
        "_type": STATEMENT_TYPE,
        "subject": [
            {"name": name, "digest": {"sha256": digest.removeprefix("sha256:")}}
            for name, digest in sorted(subjects.items())
        ],
        "predicateType": predicate_type,
        "predicate": dict(predicate),
    }


def now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class Signing:
    """A key, and the clock that statements carry the time of."""

    signer: Signer
    clock: Callable[[], datetime] = field(default=now)

    @property
    def keyid(self) -> str:
        return str(self.signer.public_key.keyid)

    def sign(self, what: Statement) -> bytes:
        """A statement, its time added, in an envelope as canonical JSON."""
        moment = self.clock().astimezone(UTC).replace(microsecond=0).isoformat()
        payload = canonical_json({**what, "predicate": {**what["predicate"], SIGNED: moment}})
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(self.signer)
        return canonical_json(envelope.to_dict())

    def cached_signature(self, what: Statement, store: Store) -> bytes:
        """The envelope that this key made for the same statement before, or a new one, which is kept.

        What is kept is used only if it is right: a store is not trusted.
        """
        key = digest_of({"statement": what, "keyid": self.keyid})
        kept = store.get_record(_SIGNATURES, key, KeptSignature)
        if kept is not None and self._made(kept.envelope.encode(), what):
            return kept.envelope.encode()
        made = self.sign(what)
        store.put_record(_SIGNATURES, key, KeptSignature(envelope=made.decode()))
        return made

    def _made(self, data: bytes, what: Statement) -> bool:
        try:
            envelope = _read(data, "a kept envelope")
            self.signer.public_key.verify_signature(envelope.signatures[self.keyid], envelope.pae())
            return next(differences(what, _statement(envelope, "a kept envelope")), None) is None
        except (KeyError, UnverifiedSignatureError, SignatureMismatch, StatementMismatch):
            return False


def open_envelope(data: bytes, trust: Trust, what: str) -> Opened:
    """The statement in an envelope, if a key that counts here signed it. Nothing of it is looked at before that.

    Args:
        what: what is signed, as an error names it, e.g. "the engine of tiny-eu for cpu".

    Raises:
        UnsignedEngine: it carries no signature.
        UnknownKey, RevokedKey, RetiredKey: by none that counts here.
        SignatureMismatch: it is no envelope, or its signature is that of something else.
        StatementMismatch: what was signed is no statement.
    """
    envelope = _read(data, what)
    if not envelope.signatures:
        raise UnsignedEngine(f"a signature on {what}", "an envelope without any", _REMEDY)
    signers = [key for key in map(trust.key, envelope.signatures) if key is not None]
    if not signers:
        raise UnknownKey(
            expected=f"{what} to be signed by a key that the trust file here names: {_names(trust)}",
            found=", ".join(each[:12] for each in envelope.signatures),
            remedy="if that key is right, fetch a newer trust file from those who release; else " + _REMEDY,
        )
    usable = [key for key in signers if key.state is not KeyState.REVOKED]
    if not usable:
        raise RevokedKey(
            expected=f"{what} to be signed by a key that counts",
            found=f"{signers[0].who()}, revoked {signers[0].ended:%Y-%m-%d}: {signers[0].reason}",
            remedy="release the region again, which signs anew with a new key: regiolect keys rotate",
        )
    key = next((each for each in usable if _verifies(each, envelope.signatures[each.keyid], envelope.pae())), None)
    if key is None:
        raise SignatureMismatch(f"{what} as {usable[0].who()} signed it", "a signature of something else", _REMEDY)
    content = _statement(envelope, what)
    signed = _time(content, what)
    if key.state is KeyState.RETIRED and key.ended is not None and signed > key.ended:
        raise RetiredKey(
            expected=f"{what} to be signed while its key was in use, until {key.ended:%Y-%m-%d %H:%M} UTC",
            found=f"{key.who()}, at {signed:%Y-%m-%d %H:%M}",
            remedy="release the region again, which signs with the key that is in use now",
        )
    return Opened(content, key, signed)


def require_same(wanted: Statement, opened: Opened, what: str) -> None:
    """Raises StatementMismatch unless what was signed is, but for its time, the statement that is true here."""
    different = list(differences(wanted, opened.statement))
    if different:
        names = ", ".join(path for path, _, _ in different[:_TOLD]) + (", ..." if len(different) > _TOLD else "")
        path, here, there = different[0]
        raise StatementMismatch(
            expected=f"{what} with the {names} that {opened.key.who()} signed; {path} {_short(there)}",
            found=f"{path} {_short(here)}",
            remedy=_REMEDY,
        )


def differences(wanted: object, actual: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object, object]]:
    """Where two JSON values differ: the place in words, what is wanted there, what is found. The time is left out."""
    if path == ("subject",):
        wanted, actual = _by_name(wanted), _by_name(actual)
    if isinstance(wanted, Mapping) and isinstance(actual, Mapping):
        for name in sorted({*wanted, *actual}):
            if (*path, name) != ("predicate", SIGNED):
                yield from differences(wanted.get(name, "nothing"), actual.get(name, "nothing"), (*path, str(name)))
    elif wanted != actual or type(wanted) is not type(actual):
        yield " ".join(part for part in path if part not in _FRAME) or "statement", wanted, actual


def _by_name(subjects: object) -> object:
    named = isinstance(subjects, list) and all(isinstance(each, dict) and "name" in each for each in subjects)
    by_name = {str(each["name"]): each for each in subjects} if isinstance(subjects, list) and named else {}
    return by_name if isinstance(subjects, list) and len(by_name) == len(subjects) else subjects


def _read(data: bytes, what: str) -> Envelope:
    try:
        envelope = Envelope.from_dict(parse_json(data))
        # The library takes these as they come, and fails on them later.
        if not all(isinstance(text, str) for text in (envelope.payload_type, *envelope.signatures)):
            raise TypeError("a type of payload or a key's id that is no text")
    except (ValueError, KeyError, TypeError, AttributeError, FormatError) as error:
        raise SignatureMismatch(
            f"a DSSE envelope for {what}", f"something else ({type(error).__name__})", _REMEDY
        ) from error
    return envelope


def _verifies(key: TrustedKey, signature: Signature, signed: bytes) -> bool:
    try:
        key.verifier().verify_signature(signature, signed)
    except UnverifiedSignatureError:
        return False
    return True


def _statement(envelope: Envelope, what: str) -> Statement:
    expected = f"an in-toto statement about {what}"
    if envelope.payload_type != PAYLOAD_TYPE:
        raise StatementMismatch(expected, f"a payload of type {envelope.payload_type!r}", _REMEDY)
    try:
        content = parse_json(envelope.payload)
    except ValueError as error:
        raise StatementMismatch(expected, "a payload that is no JSON", _REMEDY) from error
    if not isinstance(content, dict) or not isinstance(content.get("predicate"), dict):
        raise StatementMismatch(expected, "JSON without a predicate", _REMEDY)
    return content


def _time(content: Statement, what: str) -> datetime:
    stated = content["predicate"].get(SIGNED)
    try:
        moment = datetime.fromisoformat(stated)
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise StatementMismatch(f"the time when {what} was signed", repr(stated), _REMEDY) from error


def _names(trust: Trust) -> str:
    return ", ".join(key.who() for key in trust.keys) or "none"


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) <= 200 else f"{text[:200]}…"

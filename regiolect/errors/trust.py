"""Bytes, signatures and decisions that cannot be believed, or no longer hold. The tree: `regiolect.errors`."""

from __future__ import annotations

from regiolect.errors.base import RegiolectError


class AuditError(RegiolectError):
    """Something speaks against an engine that consumers can load."""


class DecisionNotReproduced(AuditError):
    """The gate, asked again on the same results, decides otherwise."""


class SamplesSeenBefore(AuditError):
    """The gate judged by samples that the engine was calibrated on."""


class NoLongerAllowed(AuditError):
    """Today's policy would not approve the engine."""


class CalibrationTooOld(AuditError):
    """The calibration is older than today's policy allows."""


class ClassNotTold(AuditError):
    """An INT8 engine does not tell in which class of arithmetic it was judged, so that nothing loads it."""


class VersionMissing(AuditError):
    """A registry lacks what a release put there, or an alias points at nothing."""


class IntegrityError(RegiolectError):
    """Bytes differ from the digest they are kept under."""


class TruncatedFile(IntegrityError):
    """A file is shorter than it was when its digest was taken."""


class InvalidBundle(IntegrityError):
    """A bundle is unfinished, of an unknown format, or contradicts itself."""


class UntrustedEngine(RegiolectError):
    """Nobody who is trusted here says that this engine was approved. Nothing of it was loaded."""


class NoTrust(UntrustedEngine):
    """There is no trust file, it cannot be read, or others can change it."""


class UnsignedEngine(UntrustedEngine):
    """An engine carries no signed decision."""


class UnknownKey(UntrustedEngine):
    """A decision is signed by a key that the trust file does not name."""


class RevokedKey(UntrustedEngine):
    """A decision is signed by a key that was revoked: nothing that it ever signed counts."""


class RetiredKey(UntrustedEngine):
    """A decision was signed after its key was retired."""


class SignatureMismatch(UntrustedEngine):
    """A signature is not that of what it stands under."""


class StatementMismatch(UntrustedEngine):
    """What was signed is true of another engine than the one that is there."""


class AliasMoved(UntrustedEngine):
    """The registry's `champion` points at a version that no release made champion."""


class SigningError(RegiolectError):
    """A decision cannot be signed."""


class NoSigningKey(SigningError):
    """There is no key to sign with."""


class InvalidSigningKey(SigningError):
    """A file holds no private key that can be used, or one that others can read."""

"""The statement that a release, or a person, made one version of a registered model the champion."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Self

from pydantic import Field, PositiveInt, ValidationError, model_validator

from regiolect.contracts import Arithmetic, Contract, Digest, RegisteredEngine, TargetId
from regiolect.errors import AliasMoved, IntegrityError, StatementMismatch
from regiolect.signing.envelope import SIGNED, KeptSignature, Opened, Signing, Statement, open_envelope, statement
from regiolect.signing.trust import Trust
from regiolect.storage import Store

PROMOTION = "https://regiolect.dev/promotion/v1"
PROMOTIONS = "promotions"


class Promotion(Contract):
    """A version that was made champion, with all that anybody asks of it without reading its bundle.

    because, by: a person's reason and the account that it was given from, where a person made it champion although it
    was held back; a release makes a version champion without either.
    replaced: the version that was champion before.
    tunings: what each engine was tuned to, in the order of `targets`; left out where none was.
    beside: digests of the files that MLflow keeps beside the bundle, by path; nothing in promotions from before they
        were signed.
    arithmetics: class of arithmetic of each engine, in that order; left out where none has one.
    """

    name: str
    version: PositiveInt
    bundle: Digest
    policy: Digest
    targets: tuple[TargetId, ...]
    build_keys: tuple[Digest, ...]
    replaced: PositiveInt | None = None
    tunings: tuple[Digest | None, ...] = Field(default=(), exclude_if=operator.not_)
    arithmetics: tuple[Arithmetic | None, ...] = Field(default=(), exclude_if=operator.not_)
    beside: Mapping[str, Digest] = Field(default={}, exclude_if=operator.not_)
    because: str | None = Field(default=None, min_length=1, exclude_if=operator.not_)
    by: str | None = Field(default=None, min_length=1, exclude_if=operator.not_)

    @model_validator(mode="after")
    def _a_person_has_a_reason(self) -> Self:
        if (self.because is None) != (self.by is None):
            raise ValueError("a person's promotion has a reason and the name of an account")
        return self

    def engine(self) -> RegisteredEngine:
        """The version as the champion it is."""
        return RegisteredEngine(
            name=self.name,
            version=self.version,
            uri=f"models:/{self.name}/{self.version}",
            champion=True,
            policy=self.policy,
            bundle=self.bundle,
            targets=self.targets,
            build_keys=self.build_keys,
            tunings=self.tunings,
            promoted_by=self.by,
            because=self.because,
            arithmetics=self.arithmetics,
        )

    def signed(self, signing: Signing) -> str:
        """Its envelope."""
        return signing.sign(self._statement()).decode()

    def _statement(self) -> Statement:
        return statement(PROMOTION, {self.name: self.bundle}, self.model_dump(mode="json"))


def keep_promotion(store: Store, name: str, envelope: str) -> None:
    """Keep the newest promotion of a registered model where its region keeps everything else: a registry that is
    emptied, or put back to what it was, cannot tell that itself."""
    if store.get_record(PROMOTIONS, name, KeptSignature) != (kept := KeptSignature(envelope=envelope)):
        store.put_record(PROMOTIONS, name, kept)


def kept_promotion(store: Store, name: str, trust: Trust) -> Promotion:
    """What the promotion says that `keep_promotion` kept of a registered model.

    Raises:
        IntegrityError: its record cannot be read, or is about another model.
        UntrustedEngine: nobody who is trusted here signed it, or it is no promotion.
        StorageError: the store cannot be read.
    """
    expected = f"the promotion of {name} that its region's store holds"
    remedy = "release the region again, which keeps the promotion anew"
    kept = store.get_record(PROMOTIONS, name, KeptSignature)
    if kept is None:
        found = "a record that cannot be read, so what the registry must hold is not known"
        raise IntegrityError(expected, found, remedy)
    promotion, _ = _opened(kept.envelope, "a promotion that the region's store holds", trust)
    if promotion.name != name:
        raise IntegrityError(expected, f"one of {promotion.name}: somebody put it in its place", remedy)
    return promotion


def open_promotion(envelope: str, name: str, version: int, trust: Trust) -> tuple[Promotion, Opened]:
    """What an envelope says of a version.

    Raises:
        AliasMoved: it is about another version.
        UntrustedEngine: nobody who is trusted here signed it, or it is no promotion.
    """
    what = f"the promotion of models:/{name}/{version}"
    promotion, opened = _opened(envelope, what, trust)
    if (promotion.name, promotion.version) != (name, version):
        raise AliasMoved(what, f"one of models:/{promotion.name}/{promotion.version}", RELEASE)
    return promotion, opened


def _opened(envelope: str, what: str, trust: Trust) -> tuple[Promotion, Opened]:
    # What is no Unicode is no envelope either.
    opened = open_envelope(envelope.encode(errors="surrogatepass"), trust, what)
    predicate = {key: value for key, value in opened.statement["predicate"].items() if key != SIGNED}
    try:
        promotion = Promotion.model_validate(predicate)
    except ValidationError as error:
        raise StatementMismatch(what, f"a statement of {opened.key.who()} about something else", RELEASE) from error
    if opened.statement.get("predicateType") != PROMOTION:
        raise StatementMismatch(what, f"a statement of type {opened.statement.get('predicateType')!r}", RELEASE)
    return promotion, opened


RELEASE = "do not use this version; release the region again, which points `champion` where it belongs"

"""What differs between two build keys, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from regiolect.contracts import Contract, SourceFiles
from regiolect.planning.kept import policy_of, source_of
from regiolect.planning.request import RegionRequest, parts_of
from regiolect.planning.sources import changed_sources
from regiolect.policy import RegionPolicy
from regiolect.scoped_cache import once
from regiolect.storage import Store

_DIGEST = "sha256:"
_LONGEST = 60
_STATED = {"None": "not stated", "{}": "stated"}
# How each part of a build key is called among people.
_WORDS = {
    "model": "the model",
    "data": "the region's data",
    "metric": "the metric's code",
    "policy": "the policy",
    "recipe": "the backend's recipe for the precision",
    "target": "the target",
    "arithmetic": "the class of arithmetic",
    "regiolect": "Regiolect's own code",
    "backend": "the backend or its machine",
    "toolchain": "the libraries",
}


class Difference(Contract):
    """A part of the build key that is not what it was when the engine was built."""

    part: str = Field(description="its name in the build key")
    before: str | None = Field(description="None: the older key had no such part")
    now: str | None = Field(description="None: the newer key has no such part")
    words: str = Field(description="the part as people call it, and the change where it says something to a person")


@dataclass(frozen=True)
class Sources:
    """What digests in a build key stand for; None where that is not known.

    policy: the policy of a digest.
    files: the files and sets of a model's, a region's data's or a metric's digest.
    """

    policy: Callable[[str], RegionPolicy | None]
    files: Callable[[str], SourceFiles | None]

    @classmethod
    def kept_in(cls, store: Store) -> Sources:
        """As builds kept them in a region's store."""
        return cls(
            policy=lambda digest: once(("policy", store, digest), lambda: policy_of(digest, store)),
            files=lambda digest: once(("files", store, digest), lambda: source_of(digest, store)),
        )

    @classmethod
    def unknown(cls) -> Sources:
        """Where nothing is kept."""
        return cls(policy=lambda digest: None, files=lambda digest: None)

    @classmethod
    def of(cls, request: RegionRequest) -> Sources:
        """As a request holds them."""
        files = {part.digest: part for part in parts_of(request).values()}
        return cls(policy={request.key_parts["policy"]: request.policy}.get, files=files.get)


def differences(before: Mapping[str, str], request: RegionRequest, store: Store) -> tuple[Difference, ...]:
    """Every part of a request's build key that differs from an older one's, in the order of the request's parts.

    Args:
        before: the parts of the older key.
        store: the region's, which may have kept the policy of that time.
    """
    return differences_between(before, request.key_parts, Sources.kept_in(store), Sources.of(request))


def differences_between(
    before: Mapping[str, str], now: Mapping[str, str], old: Sources, new: Sources
) -> tuple[Difference, ...]:
    """Every part that differs between two build keys, in the order of the newer one's.

    Args:
        before, now: the parts of the two keys.
        old, new: what the digests in them stand for.
    """
    names = [*now, *(name for name in sorted(before) if name not in now)]
    return tuple(
        _difference(name, before.get(name), now.get(name), old, new)
        for name in names
        if before.get(name) != now.get(name) and not (name == "policy" and _same_policy(before, now, new))
    )


def _same_policy(before: Mapping[str, str], now: Mapping[str, str], new: Sources) -> bool:
    """Whether an older key holds the digest of the very policy, words and all."""
    today = new.policy(now["policy"]) if "policy" in now else None
    return today is not None and today.has_digest(before.get("policy"))


def _difference(name: str, before: str | None, now: str | None, old: Sources, new: Sources) -> Difference:
    called, detail = _WORDS.get(name, name), _detail(name, before, now, old, new)
    return Difference(part=name, before=before, now=now, words=f"{called} ({detail})" if detail else called)


def _detail(name: str, before: str | None, now: str | None, old: Sources, new: Sources) -> str:
    if before is None or now is None or not now.startswith(_DIGEST):
        return _change(before, now)
    if name == "policy":
        then, today = old.policy(before), new.policy(now)
        return "" if then is None or today is None else ", ".join(policy_changes(then, today))
    files = new.files(now)
    return ", ".join(changed_sources(old.files(before), files)) if files else ""


def policy_changes(before: RegionPolicy, now: RegionPolicy) -> Iterator[str]:
    """`accuracy.limit 5 -> 4` for each field that differs, of those that a build key is made of."""
    old, new = (dict(_leaves(policy.demands())) for policy in (before, now))
    for name in dict.fromkeys([*new, *old]):
        if old.get(name) != new.get(name):
            states = [_said(values.get(name)) for values in (old, new)]
            if states[0] == states[1]:
                # An empty list says something else than none at all: `repair.fallback: []` is no wider precision. So
                # does a group of which nothing is demanded but that it is there: `approval: {}`.
                states = [_STATED.get(str(values.get(name)), "empty") for values in (old, new)]
            # What is as long as a sentence belongs into the policy's own page.
            yield name if max(map(len, states)) > _LONGEST else f"{name} {' -> '.join(states)}"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name, value


def _said(value: Any) -> str:
    if value is None or value in ((), [], {}):
        return "none"
    if isinstance(value, list):
        return " + ".join(map(_said, value))
    if isinstance(value, dict):
        return "/".join(_said(inner) for inner in value.values() if inner is not None)
    return f"{value:g}" if isinstance(value, float) else str(value)


def _change(before: str | None, now: str | None) -> str:
    """What became of a part that is a list of names and values; nothing of digests, which tell a person nothing."""
    if (before or now or "").startswith(_DIGEST):
        return ""
    old, new = ((text or "none").split(", ") for text in (before, now))
    gone = [piece for piece in old if piece not in new]
    come = [piece for piece in new if piece not in old]
    return f"{', '.join(gone) or 'none'} -> {', '.join(come) or 'none'}"

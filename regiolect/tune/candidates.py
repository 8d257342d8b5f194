"""What tuning tries: each of a backend's configurations at each batch size that is worth telling apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from regiolect.contracts import BatchProfile

DEFAULT_MINUTES = 5.0
"""How long measuring one engine may take where nobody says otherwise."""


def batch_sizes(profile: BatchProfile) -> tuple[int, ...]:
    """The powers of two that the profile takes, or its buckets where it has some; and always its optimum. Rising."""
    if profile.buckets:
        sizes = {bucket for bucket in profile.buckets if bucket >= profile.min}
    else:
        sizes = {1 << power for power in range(profile.max.bit_length())}
    return tuple(sorted({size for size in sizes if profile.min <= size <= profile.max} | {profile.opt}))

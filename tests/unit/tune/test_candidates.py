"""Which batches are tried: sizes that the engine takes, its optimum always among them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from regiolect.contracts import BatchProfile
from regiolect.tune.candidates import batch_sizes


@given(sizes=st.lists(st.integers(1, 300), min_size=3, max_size=3))
def test_powers_of_two_in_the_profile_and_its_optimum(sizes: list[int]) -> None:
    least, opt, most = sorted(sizes)
    found = batch_sizes(BatchProfile(min=least, opt=opt, max=most))
    assert list(found) == sorted(set(found))
    assert opt in found
    assert all(least <= size <= most for size in found)
    assert {1 << power for power in range(9) if least <= 1 << power <= most} <= set(found)


def test_where_the_policy_has_buckets_they_are_the_sizes() -> None:
    assert batch_sizes(BatchProfile(min=1, opt=12, max=48, buckets=(6, 12, 48))) == (6, 12, 48)
    assert batch_sizes(BatchProfile(min=6, opt=8, max=48, buckets=(4, 12, 48))) == (8, 12, 48)

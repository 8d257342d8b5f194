"""What differs between a model, a metric or a region's data and what it was: which sets, and which files."""

from __future__ import annotations

from collections.abc import Mapping

from regiolect.contracts import SourceFiles, SourceSet, Split


def changed_sources(before: SourceFiles | None, now: SourceFiles) -> list[str]:
    """The sets and files whose content differs, in order; none if it is not known what there was before."""
    if before is None:
        return []
    return [*_changed_sets(before.sets, now.sets), *_changed_files(before.files, now.files)]


def _changed_sets(before: Mapping[Split, SourceSet], now: Mapping[Split, SourceSet]) -> list[str]:
    """`gate set, 2,000 -> 2,100 samples` for each set that differs, of those that are known of both."""
    return [
        f"{split} set{_counts(before[split].samples, now[split].samples)}"
        for split in Split
        if split in before and split in now and before[split].digest != now[split].digest
    ]


def _counts(before: int | None, now: int | None) -> str:
    if before is None or now is None:
        return ""
    noun = "sample" if now == 1 else "samples"
    return f", still {now:,} {noun}" if before == now else f", {before:,} -> {now:,} {noun}"


def _changed_files(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    """Names of the files whose content differs, those that are new or gone by such words."""
    return [
        name if name in before and name in now else f"{name} {'is new' if name in now else 'is gone'}"
        for name in sorted({**before, **now})
        if before.get(name) != now.get(name)
    ]

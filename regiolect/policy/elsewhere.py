"""Policies in another folder than the one that was looked into: which folder it may be, and how it is named."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

from regiolect.policy.files import policy_files


def folder_with(regions: Collection[str]) -> str | None:
    """A folder of the working directory that has a policy of one of these regions."""
    folders = sorted(Path.cwd().glob("[!.]*"))
    wanted = set(regions)
    return next((each.name for each in folders if wanted & policy_files(each).keys()), None)


def folder_option(folder: str | None) -> str:
    """What to write so that policies are read from a folder, in one command and in all of them."""
    named = folder or "FOLDER"
    return f'--policies {named}; for all commands policies = "{named}" in regiolect.toml, or REGIOLECT_POLICIES'

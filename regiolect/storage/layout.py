"""Where content and records lie in a store, a folder as well as a bucket. Keys are paths from the store's root."""

from __future__ import annotations


def blob_key(digest: str) -> str:
    """Of content, by its digest."""
    name = digest.removeprefix("sha256:")
    return f"blobs/{name[:2]}/{name}"


def record_folder(kind: str) -> str:
    """Of all records of a kind."""
    return f"records/{kind}/"


def record_key(kind: str, key: str) -> str:
    """Of one record."""
    return f"{record_folder(kind)}{key.removeprefix('sha256:')}.json"

"""Buckets of an S3 server: which there are, and making those that are missing.

python -m regiolect.storage.buckets NAME ...     makes them on the server that the environment's AWS_ variables name
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from regiolect.errors import StorageError

_SECONDS = 5


@dataclass(frozen=True)
class Access:
    """How an S3 server is reached. The secrets are not part of its repr."""

    endpoint: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str


def list_buckets(access: Access) -> tuple[str, ...]:
    """Names of all buckets, asked for with a signed request, once.

    Raises:
        StorageError: no answer within seconds, or the credentials are refused.
    """
    try:
        return tuple(bucket["Name"] for bucket in _client(access, tries=1).list_buckets()["Buckets"])
    except (BotoCoreError, ClientError) as error:
        raise _failed(access, "a list of buckets", error) from error


def make_buckets(access: Access, names: Sequence[str]) -> None:
    """Make those of `names` that are not there yet; what is in the others stays.

    Raises:
        StorageError: no answer, credentials refused, or a name belongs to somebody else.
    """
    there = list_buckets(access)
    client = _client(access, tries=3)
    for name in names:
        if name in there:
            continue
        try:
            client.create_bucket(Bucket=name)
        except client.exceptions.BucketAlreadyOwnedByYou:
            # Made by another process in the meantime.
            continue
        except (BotoCoreError, ClientError) as error:
            raise _failed(access, f"to make the bucket {name}", error) from error


def _client(access: Access, tries: int) -> Any:
    return boto3.client(
        "s3",
        endpoint_url=access.endpoint,
        aws_access_key_id=access.access_key,
        aws_secret_access_key=access.secret_key,
        region_name=access.region,
        # Nothing of the caller's own environment: no proxy, no session token of another account.
        aws_session_token="",
        config=Config(
            proxies={},
            connect_timeout=_SECONDS,
            read_timeout=_SECONDS,
            retries={"mode": "standard", "total_max_attempts": tries},
            s3={"addressing_style": "path"},
        ),
    )


def _failed(access: Access, wanted: str, error: Exception) -> StorageError:
    return StorageError(
        expected=f"{wanted} from the S3 server at {access.endpoint}",
        found=f"{error} ({type(error).__name__})",
        remedy="start the server, or correct the address (AWS_ENDPOINT_URL) and the credentials (AWS_ACCESS_KEY_ID, "
        "AWS_SECRET_ACCESS_KEY)",
    )


if __name__ == "__main__":
    _named = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION")
    try:
        make_buckets(Access(*(os.environ[name] for name in _named)), sys.argv[1:])
    except StorageError as failed:
        sys.exit(str(failed))

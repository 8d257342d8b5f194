"""The S3 server's address: where the usual AWS chain leads."""

from __future__ import annotations

import boto3
from botocore.exceptions import BotoCoreError

from regiolect.storage.s3_faults import authority


def s3_address() -> str | None:
    """The address of the S3 server, without user and password; None if the chain leads to none."""
    try:
        return authority(str(boto3.session.Session().client("s3").meta.endpoint_url))
    except (BotoCoreError, ValueError):
        return None

"""What botocore raises, as errors that say what to do. Neither credentials nor signatures get into them."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from botocore import exceptions as aws

from regiolect.errors import (
    ClockOff,
    ForeignStore,
    NoSuchBucket,
    StorageError,
    StoreAccessRefused,
    StoreFull,
    StoreUnreachable,
)
from regiolect.errors.redaction import without_userinfo

_NO_CREDENTIALS = (
    aws.CredentialRetrievalError,
    aws.LoginError,
    aws.NoAuthTokenError,
    aws.NoCredentialsError,
    aws.PartialCredentialsError,
    aws.ProfileNotFound,
    aws.SSOError,
    aws.TokenRetrievalError,
)
_UNREACHABLE = (aws.ConnectionError, aws.HTTPClientError, aws.IncompleteReadError)
_FULL = ("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull")
_ELSEWHERE = ("AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect")
_CLOCK = ("RequestExpired", "RequestTimeTooSkewed")
CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (and AWS_SESSION_TOKEN where the account needs it), or AWS_PROFILE"
)


def status(error: aws.ClientError) -> int:
    """The HTTP status of an answer."""
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def code(error: aws.ClientError) -> str:
    """S3's name of an error; the status as text where the answer had no body."""
    return str(error.response["Error"].get("Code", ""))


def authority(endpoint: str) -> str:
    """An endpoint without the user and password that it may hold."""
    parts = urlsplit(without_userinfo(endpoint))
    return f"{parts.scheme}://{parts.netloc}"


def named(error: aws.BotoCoreError | aws.ClientError, expected: str, bucket: str, endpoint: str) -> StorageError:
    """The error of ours that a fault of botocore's amounts to.

    Args:
        expected: what was to be done, such as "to read s3://bucket/key".
        bucket: the bucket's name.
        endpoint: the address that was asked.
    """
    where = authority(endpoint)
    if isinstance(error, aws.ClientError):
        return _answered(error, expected, bucket, where)
    if isinstance(error, _NO_CREDENTIALS):
        return StoreAccessRefused(f"{expected} with credentials", str(error), CREDENTIALS)
    if isinstance(error, _UNREACHABLE):
        return StoreUnreachable(
            expected=f"{expected} at {where}",
            found=f"no usable answer ({type(error).__name__})",
            remedy="correct AWS_ENDPOINT_URL (and AWS_DEFAULT_REGION on AWS itself), or start the server: regiolect up",
        )
    return StorageError(
        expected=f"{expected} at {where}",
        found=f"{error} ({type(error).__name__})",
        remedy="correct REGIOLECT_STORE and the AWS_ variables, then run again",
    )


def not_s3(expected: str, endpoint: str) -> StoreUnreachable:
    """An answer that no S3 server would give."""
    return StoreUnreachable(
        expected=f"{expected} from an S3 server at {authority(endpoint)}",
        found="an answer that is not S3's",
        remedy="correct AWS_ENDPOINT_URL: another service listens there",
    )


def full(expected: str, where: str, found: str) -> StoreFull:
    """A store that takes no more content."""
    return StoreFull(
        expected=f"{expected} at {where}",
        found=found,
        remedy="free or add space at the server, then run again; what is finished is not built again",
    )


def _answered(error: aws.ClientError, expected: str, bucket: str, where: str) -> StorageError:
    name, answer = code(error), error.response["ResponseMetadata"]
    found = f"{name or 'an error'} (HTTP {status(error)})"
    if name in _CLOCK:
        date = answer.get("HTTPHeaders", {}).get("date", "unknown")
        return ClockOff(
            expected=f"{expected} with a clock within 15 minutes of the server's",
            found=f"{found}: the server's says {date}, this machine's {datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}",
            remedy="set this machine's clock, for example: timedatectl set-ntp true",
        )
    if name == "NoSuchBucket":
        return NoSuchBucket(
            expected=f"{expected} in bucket {bucket!r} at {where}",
            found="no such bucket",
            remedy=f"correct REGIOLECT_STORE, or make the bucket: aws s3 mb s3://{bucket}",
        )
    if name in _ELSEWHERE or status(error) == 301:
        region = answer.get("HTTPHeaders", {}).get("x-amz-bucket-region") or error.response["Error"].get("Region")
        return ForeignStore(
            expected=f"{expected}, of a bucket in the AWS region that is set",
            found=f"{found}: the bucket lies in {region or 'another one'}",
            remedy=f"export AWS_DEFAULT_REGION={region or 'REGION'}, or name another bucket in REGIOLECT_STORE",
        )
    if name in _FULL or status(error) == 507:
        return full(expected, where, found)
    if status(error) in (401, 403):
        return StoreAccessRefused(
            expected=f"{expected} at {where} with credentials that may do so",
            found=found,
            remedy=f"{CREDENTIALS}; they need to read, write and list bucket {bucket!r}, which must exist",
        )
    return StorageError(
        expected=f"{expected} at {where}",
        found=found,
        remedy="run again, and see the server's log if it stays so; what is finished is not built again",
    )

"""A store in an S3 bucket, at any server that speaks S3.

Endpoint and credentials come from the usual AWS chain (AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, AWS_PROFILE, ...). The
server verifies every write against checksums that are sent with it, and content is only ever written where there is
none, or in place of what does not have its digest. What is read is kept in a local folder and verified on each use.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import io
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import boto3
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from regiolect.contracts import Blob, Contract, short
from regiolect.errors import ContentMissing, IntegrityError, InvalidSetting, NoSuchBucket, StorageError
from regiolect.host.files import RECORD, open_file
from regiolect.integrity import atomic_file, canonical_json, digest_bytes, digest_file
from regiolect.storage.base import MARKER, C, StoreMarker, check_marker, parsed
from regiolect.storage.layout import blob_key, record_folder, record_key
from regiolect.storage.s3_faults import authority, code, full, named, not_s3, status

MIB = 1 << 20

_CONFIG = {
    # Three tries of two seconds: an address where nothing answers is named in less than ten.
    "connect_timeout": 2,
    "read_timeout": 20,
    "retries": {"mode": "standard", "total_max_attempts": 3},
    "max_pool_connections": 32,
    # We send SHA-256 with every write and verify every read ourselves.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}
_CHUNK = MIB
# What a conditional write is answered where there is something already, or another write is under way.
_TAKEN = (409, 412)
_NO_VOLUME = "HTTP 500 to a write while reads are answered, as SeaweedFS does when no volume has room"


class _Sums(NamedTuple):
    """Of some content: its digest, its size, and the SHA-256 that S3 tells of it when it is sent in one or in parts."""

    digest: str
    size: int
    whole: str
    in_parts: str | None


class S3Store:
    """A store below `s3://bucket/prefix`: `blobs/<first two>/<digest>` and `records/<kind>/<key>.json`.

    Safe to be used by several threads.

    Args:
        location: `s3://bucket/prefix`; the prefix may be absent.
        cache: folder for copies of what was put or read; a folder in it per store, which may be deleted at any time.
        multipart_above: content of more bytes than this is sent in parts.
        part_bytes: size of a part; S3 takes no less than 5 MiB.

    Raises:
        InvalidSetting: AWS_ENDPOINT_URL is not usable.
        StoreAccessRefused: AWS_PROFILE names no profile.
    """

    def __init__(
        self, location: str, cache: Path, *, multipart_above: int = 64 * MIB, part_bytes: int = 8 * MIB
    ) -> None:
        self.location = location.rstrip("/")
        self._bucket, _, prefix = self.location.removeprefix("s3://").partition("/")
        self._prefix = f"{prefix}/" if prefix else ""
        self._multipart_above = multipart_above
        self._part_bytes = part_bytes
        self._transfer = TransferConfig(
            multipart_threshold=multipart_above, multipart_chunksize=part_bytes, preferred_transfer_client="classic"
        )
        account = frozenset((name, value) for name, value in os.environ.items() if name.startswith("AWS_"))
        self._client = _client(self._bucket, account, os.getpid())
        self._endpoint = str(self._client.meta.endpoint_url)
        # Regions do not share copies: what one may read, another may not.
        self._cache = cache.absolute() / short(digest_bytes(f"{authority(self._endpoint)} {self.location}".encode()))

    def claim(self, region: str | None) -> None:
        """Make sure that the location is `region`'s own, or one that all share (None), and mark it if it is new.

        Raises:
            ForeignStore: it belongs to another region.
            StorageError: it cannot be reached, read or marked; see `regiolect.storage.s3_faults`.
        """
        check_marker(self.location, region, lambda: self._get(MARKER), self._create_marker)

    def is_marked(self) -> bool:
        """Whether somebody claimed the location; not so where there is not even a bucket."""
        try:
            return self._get(MARKER) is not None
        except NoSuchBucket:
            return False

    def put_bytes(self, data: bytes) -> Blob:
        return self._put(lambda: io.BytesIO(data))

    def put_file(self, path: Path) -> Blob:
        return self._put(lambda: open_file(path))

    def path_of(self, blob: Blob) -> Path:
        cached = self._cached(blob.digest)
        if cached.is_file() and _is_copy(cached, blob):
            return cached
        key = blob_key(blob.digest)
        doing = f"to read {self._uri(key)}"
        content = self._found(key)
        if content is None:
            raise ContentMissing(
                expected=f"content {short(blob.digest)} at {self._uri(key)}",
                found="no such object",
                remedy="run again with --force to make it anew, or restore the bucket from a backup",
            )
        body, size = content
        # What is known by its digest alone has no size.
        if blob.size and size != blob.size:
            body.close()
            raise self._other(key, f"{blob.size} bytes, {blob.digest}", f"{size} bytes")
        with atomic_file(cached) as temporary, temporary.open("wb") as file:
            # Inside, because some of botocore's errors are OSErrors too, and a lost connection is no full disk.
            with self._named(doing), body:
                digest = _copy(body, file)
            if digest != blob.digest:
                raise self._other(key, blob.digest, digest)
        return cached

    def has(self, blob: Blob) -> bool:
        key = blob_key(blob.digest)
        with self._named(f"to look for {self._uri(key)}"):
            head = self._head(key)
        return head is not None and head["ContentLength"] == blob.size

    def put_record(self, kind: str, key: str, value: Contract) -> None:
        name = record_key(kind, key)
        with self._named(f"to write {self._uri(name)}", writing=True):
            self._put_object(name, canonical_json(value))

    def get_record(self, kind: str, key: str, type_: type[C]) -> C | None:
        data = self._get(record_key(kind, key))
        return None if data is None else parsed(data, type_)

    def records(self, kind: str, type_: type[C]) -> Iterator[C]:
        entries = self._listed(record_folder(kind))
        for entry in sorted(entries, key=lambda entry: entry["LastModified"], reverse=True):
            data = self._get(entry["Key"].removeprefix(self._prefix))
            record = None if data is None else parsed(data, type_)
            if record is not None:
                yield record

    def record_keys(self, kind: str) -> Iterator[str]:
        folder = record_folder(kind)
        start = len(self._prefix + folder)
        yield from sorted(entry["Key"][start:].removesuffix(".json") for entry in self._listed(folder))

    def _listed(self, folder: str) -> list[dict[str, Any]]:
        with self._named(f"to list {self._uri(folder)}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self._prefix + folder
            )
            return [entry for page in pages for entry in page.get("Contents", ()) if entry["Key"].endswith(".json")]

    def _put(self, opened: Callable[[], BinaryIO]) -> Blob:
        with opened() as source:
            sums = self._sums(source)
        key = blob_key(sums.digest)
        with self._named(f"to write {self._uri(key)}", writing=True):
            head = self._head(key)
            if not _is(head, sums):
                self._send(key, opened, sums, new=head is None)
        # Most of what is made here is read here again.
        cached = self._cached(sums.digest)
        if not cached.is_file():
            with opened() as source, atomic_file(cached) as temporary, temporary.open("wb") as file:
                shutil.copyfileobj(source, file, _CHUNK)
        return Blob(uri=self._uri(key), digest=sums.digest, size=sums.size)

    def _send(self, key: str, opened: Callable[[], BinaryIO], sums: _Sums, new: bool) -> None:
        with opened() as source:
            if sums.in_parts is not None:
                self._client.upload_fileobj(
                    source,
                    self._bucket,
                    self._prefix + key,
                    ExtraArgs={"ChecksumAlgorithm": "SHA256"},
                    Config=self._transfer,
                )
                kept = _is(self._head(key), sums)
            else:
                try:
                    answer = self._put_object(key, source, sums.whole, **({"IfNoneMatch": "*"} if new else {}))
                    kept = answer.get("ChecksumSHA256") == sums.whole
                except ClientError as error:
                    if status(error) not in _TAKEN:
                        raise
                    # Another writer was first, with the same content.
                    kept = _is(self._head(key), sums)
        if not kept:
            raise IntegrityError(
                expected=f"{self._uri(key)} with the SHA-256 of what was sent, as told by {authority(self._endpoint)}",
                found="another one, or none",
                remedy="run again if the file may have changed while it was sent; else choose an S3 server that keeps "
                "SHA-256 checksums",
            )

    def _sums(self, source: BinaryIO) -> _Sums:
        size = source.seek(0, io.SEEK_END)
        source.seek(0)
        whole, parts = hashlib.sha256(), []
        while piece := source.read(self._part_bytes):
            whole.update(piece)
            if size > self._multipart_above:
                parts.append(hashlib.sha256(piece).digest())
        in_parts = f"{_base64(hashlib.sha256(b''.join(parts)).digest())}-{len(parts)}" if parts else None
        return _Sums(f"sha256:{whole.hexdigest()}", size, _base64(whole.digest()), in_parts)

    def _create_marker(self, marker: StoreMarker) -> bool:
        with self._named(f"to write {self._uri(MARKER)}", writing=True):
            try:
                self._put_object(MARKER, canonical_json(marker), IfNoneMatch="*")
            except ClientError as error:
                if status(error) not in _TAKEN:
                    raise
                return False
        return True

    def _put_object(self, key: str, body: bytes | BinaryIO, checksum: str | None = None, **conditions: str) -> Any:
        if isinstance(body, bytes):
            checksum = _base64(hashlib.sha256(body).digest())
        return self._client.put_object(
            Bucket=self._bucket, Key=self._prefix + key, Body=body, ChecksumSHA256=checksum, **conditions
        )

    def _get(self, key: str) -> bytes | None:
        content = self._found(key, ChecksumMode="ENABLED")
        if content is None:
            return None
        body, size = content
        with self._named(f"to read {self._uri(key)}"), body:
            if size > RECORD:
                raise StorageError(
                    f"{self._uri(key)} with at most {RECORD:,} bytes", f"{size:,} bytes", self._delete(key)
                )
            return bytes(body.read())

    def _other(self, key: str, wanted: str, found: str) -> IntegrityError:
        return IntegrityError(f"{self._uri(key)} with {wanted}", found, self._delete(key))

    def _delete(self, key: str) -> str:
        return (
            "the object was changed or damaged after it was written; delete it, then run again to rebuild it: "
            f"aws s3 rm {self._uri(key)}"
        )

    def _found(self, key: str, **options: str) -> tuple[Any, int] | None:
        """An object's content to be read and its size in bytes, or None if there is no such object."""
        doing = f"to read {self._uri(key)}"
        with self._named(doing):
            try:
                answer = self._client.get_object(Bucket=self._bucket, Key=self._prefix + key, **options)
                return answer["Body"], int(answer["ContentLength"])
            except ClientError as error:
                if code(error) == "NoSuchKey":
                    return None
                if status(error) == 404 and code(error) != "NoSuchBucket":
                    raise not_s3(doing, self._endpoint) from error
                raise

    def _head(self, key: str) -> dict[str, Any] | None:
        try:
            head = self._client.head_object(Bucket=self._bucket, Key=self._prefix + key, ChecksumMode="ENABLED")
        except ClientError as error:
            if status(error) == 404:
                return None
            raise
        return dict(head)

    @contextmanager
    def _named(self, doing: str, writing: bool = False) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            # An answer to HEAD has no body and tells only a number.
            refusal = self._refusal() if error.operation_name == "HeadObject" else None
            if writing and _from_seaweedfs(error) and self._refusal() is None:
                raise full(doing, authority(self._endpoint), _NO_VOLUME) from error
            raise named(refusal or error, doing, self._bucket, self._endpoint) from error
        except BotoCoreError as error:
            # The bare HTTPClientError quotes what it could not send, an Authorization header among it.
            cause = None if type(error) is HTTPClientError else error
            raise named(error, doing, self._bucket, self._endpoint) from cause

    def _refusal(self) -> ClientError | None:
        """Why the server would not let the marker be read; None if it does, or has none."""
        try:
            self._client.get_object(Bucket=self._bucket, Key=self._prefix + MARKER)["Body"].close()
        except ClientError as error:
            return None if code(error) == "NoSuchKey" else error
        return None

    def _uri(self, key: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}{key}"

    def _cached(self, digest: str) -> Path:
        return self._cache / blob_key(digest)


@functools.lru_cache(maxsize=8)
def _client(bucket: str, account: frozenset[tuple[str, str]], process: int) -> Any:
    """A client for the AWS_ variables that are set now. The arguments are what makes one client another's."""
    try:
        session = boto3.session.Session()
        client = session.client("s3", config=Config(**_CONFIG))
        endpoint = str(client.meta.endpoint_url)
        if "@" in endpoint:
            raise ValueError(f"{authority(endpoint)} with a user or a password")
        if not endpoint.endswith("amazonaws.com"):
            # Elsewhere a bucket is seldom a host's name.
            client = session.client("s3", config=Config(**_CONFIG, s3={"addressing_style": "path"}))
    except ValueError as error:
        raise InvalidSetting(
            expected="an address such as http://127.0.0.1:8333 in AWS_ENDPOINT_URL",
            found=str(error),
            remedy="correct AWS_ENDPOINT_URL; credentials go into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from error
    except BotoCoreError as error:
        raise named(error, "to connect to S3", bucket, "") from error
    return client


def _is_copy(path: Path, blob: Blob) -> bool:
    """Whether a file is the content; its size is compared before it is read, where it is known."""
    return (not blob.size or path.stat().st_size == blob.size) and digest_file(path) == blob.digest


def _is(head: dict[str, Any] | None, sums: _Sums) -> bool:
    """Whether an object is the content, by size and by the checksum that the server verified when it was written."""
    return (
        head is not None
        and head["ContentLength"] == sums.size
        and head.get("ChecksumSHA256") in (sums.whole, sums.in_parts or sums.whole)
    )


def _from_seaweedfs(error: ClientError) -> bool:
    server = error.response["ResponseMetadata"].get("HTTPHeaders", {}).get("server", "")
    return status(error) == 500 and server.startswith("SeaweedFS")


def _copy(body: Any, file: BinaryIO) -> str:
    """Copy a stream, and tell its digest."""
    digest = hashlib.sha256()
    while piece := body.read(_CHUNK):
        digest.update(piece)
        file.write(piece)
    return f"sha256:{digest.hexdigest()}"


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()

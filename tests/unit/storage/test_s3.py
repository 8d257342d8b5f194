"""The S3 store on a real server: what the server verifies, what readers notice, and that it survives the server."""

from __future__ import annotations

import base64
import hashlib
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from regiolect.contracts import Blob
from regiolect.errors import ContentMissing, IntegrityError, StoreUnreachable
from regiolect.storage import S3Store
from regiolect.storage.s3 import MIB
from tests.seaweed import Seaweed

pytestmark = pytest.mark.slow


@pytest.fixture
def store(aws: Seaweed, place: str, tmp_path: Path) -> S3Store:
    made = S3Store(place, tmp_path / "cache")
    made.claim(None)
    return made


@pytest.fixture
def parts(aws: Seaweed, place: str, tmp_path: Path) -> S3Store:
    """Sends whatever has more than a MiB in parts of five."""
    return S3Store(place, tmp_path / "cache", multipart_above=MIB, part_bytes=5 * MIB)


@pytest.fixture
def big() -> bytes:
    return os.urandom(12 * MIB)


def key_of(blob: Blob) -> str:
    return blob.uri.removeprefix("s3://regiolect/")


def head(server: Seaweed, blob: Blob) -> Any:
    return server.client().head_object(Bucket="regiolect", Key=key_of(blob), ChecksumMode="ENABLED")


def elsewhere(blob: Blob, tmp_path: Path) -> Path:
    """Read on a machine that has no copy."""
    return S3Store(blob.uri.partition("/blobs/")[0], tmp_path / "another cache").path_of(blob)


# ------------------------------------------------------------------------------------------- what the server verifies


def test_the_server_refuses_bytes_that_have_not_the_checksum_sent_with_them(aws: Seaweed) -> None:
    checksum = base64.b64encode(hashlib.sha256(b"engine").digest()).decode()
    client = aws.client()
    with pytest.raises(ClientError, match="BadDigest"):
        client.put_object(Bucket="regiolect", Key="wrong", Body=b"enginE", ChecksumSHA256=checksum)
    upload = client.create_multipart_upload(Bucket="regiolect", Key="wrong", ChecksumAlgorithm="SHA256")["UploadId"]
    with pytest.raises(ClientError, match="BadDigest"):
        client.upload_part(
            Bucket="regiolect", Key="wrong", UploadId=upload, PartNumber=1, Body=b"enginE", ChecksumSHA256=checksum
        )


def test_what_is_put_carries_its_checksum(store: S3Store, aws: Seaweed) -> None:
    blob = store.put_bytes(b"engine")
    assert head(aws, blob)["ChecksumSHA256"] == base64.b64encode(bytes.fromhex(blob.digest[7:])).decode()


def test_content_is_written_once(store: S3Store, aws: Seaweed, place: str, tmp_path: Path) -> None:
    blob = store.put_bytes(b"engine")
    client = aws.client()
    client.put_bucket_versioning(Bucket="versioned", VersioningConfiguration={"Status": "Enabled"})
    many = [S3Store(place.replace("regiolect", "versioned"), tmp_path / str(number)) for number in range(16)]
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda one: one.put_bytes(b"engine"), many))
    versions = client.list_object_versions(Bucket="versioned", Prefix=key_of(blob).partition("/blobs/")[0])["Versions"]
    assert len(versions) == 1


def test_big_content_goes_in_parts_and_comes_back(parts: S3Store, aws: Seaweed, big: bytes, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(big)
    blob = parts.put_file(tmp_path / "big")
    found = head(aws, blob)
    assert found["ChecksumSHA256"].endswith("-3")
    assert elsewhere(blob, tmp_path).read_bytes() == big
    assert parts.put_bytes(big) == blob
    assert head(aws, blob)["LastModified"] == found["LastModified"], "it was there"


def test_a_damaged_object_is_replaced_by_the_next_put(store: S3Store, aws: Seaweed, tmp_path: Path) -> None:
    blob = store.put_bytes(b"engine")
    aws.client().put_object(Bucket="regiolect", Key=key_of(blob), Body=b"enginE")
    assert store.put_bytes(b"engine") == blob
    assert elsewhere(blob, tmp_path).read_bytes() == b"engine"


def test_a_file_that_changes_while_it_is_sent_is_not_kept_unnoticed(
    parts: S3Store, big: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "big"
    path.write_bytes(big)
    head_object = parts._client.head_object

    def changed(**options: str) -> Any:
        path.write_bytes(big[::-1])
        return head_object(**options)

    monkeypatch.setattr(parts._client, "head_object", changed)
    with pytest.raises(IntegrityError, match="SHA-256 of what was sent"):
        parts.put_file(path)


# --------------------------------------------------------------------------------------------- what readers notice


@pytest.mark.parametrize("found", [b"eng", b"enginE", b""], ids=["truncated", "changed", "emptied"])
def test_a_changed_object_is_named_with_what_to_type(
    store: S3Store, aws: Seaweed, tmp_path: Path, found: bytes
) -> None:
    blob = store.put_bytes(b"engine")
    aws.client().put_object(Bucket="regiolect", Key=key_of(blob), Body=found)
    with pytest.raises(IntegrityError, match=blob.uri) as caught:
        elsewhere(blob, tmp_path)
    assert f"aws s3 rm {blob.uri}" in caught.value.remedy
    assert [path for path in (tmp_path / "another cache").rglob("*") if path.is_file()] == []


def test_a_changed_copy_is_mended_from_the_store(store: S3Store, aws: Seaweed) -> None:
    blob = store.put_bytes(b"engine")
    store.path_of(blob).write_bytes(b"enginE")
    assert store.path_of(blob).read_bytes() == b"engine"
    store.path_of(blob).write_bytes(b"enginE")
    aws.client().delete_object(Bucket="regiolect", Key=key_of(blob))
    with pytest.raises(ContentMissing):
        store.path_of(blob)


def test_a_good_copy_needs_no_server(store: S3Store, aws: Seaweed) -> None:
    blob = store.put_bytes(b"engine")
    aws.client().delete_object(Bucket="regiolect", Key=key_of(blob))
    assert store.path_of(blob).read_bytes() == b"engine"
    assert not store.has(blob)


def test_stores_do_not_share_copies(store: S3Store, place: str, tmp_path: Path) -> None:
    blob = store.put_bytes(b"engine")
    with pytest.raises(ContentMissing):
        S3Store(f"{place}-of-another-region", tmp_path / "cache").path_of(blob)


# ----------------------------------------------------------------------------------------- servers that come and go


def test_a_store_that_is_killed_and_comes_back_is_used_on(
    place: str, big: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Seaweed(tmp_path / "server").start()
    try:
        for name, value in server.environment().items():
            monkeypatch.setenv(name, value)
        store = S3Store(place, tmp_path / "cache", multipart_above=MIB, part_bytes=5 * MIB)
        store.claim("eu")
        before = store.put_bytes(b"engine")
        send = store._client.upload_part

        def killed(**options: Any) -> Any:
            server.kill()
            return send(**options)

        with monkeypatch.context() as patch:
            patch.setattr(store._client, "upload_part", killed)
            with pytest.raises(StoreUnreachable, match="regiolect up"):
                store.put_bytes(big)
        assert store.path_of(before).read_bytes() == b"engine"
        server.start()
        assert not store.has(Blob(uri="", digest=f"sha256:{hashlib.sha256(big).hexdigest()}", size=len(big)))
        blob = store.put_bytes(big)
        store.claim("eu")
        assert elsewhere(before, tmp_path).read_bytes() == b"engine"
        assert elsewhere(blob, tmp_path).read_bytes() == big
    finally:
        server.stop()


@pytest.mark.timeout(120)
def test_a_copy_that_is_too_large_is_fetched_again_without_being_read(store: S3Store) -> None:
    blob = store.put_bytes(b"engine")
    copy = store.path_of(blob)
    copy.chmod(0o600)
    os.truncate(copy, 1 << 40)
    assert store.path_of(blob).read_bytes() == b"engine"

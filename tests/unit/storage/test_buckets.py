from __future__ import annotations

from dataclasses import replace

import pytest

from regiolect.errors import StorageError
from regiolect.storage.buckets import Access, list_buckets, make_buckets
from tests.seaweed import Seaweed

pytestmark = pytest.mark.slow


@pytest.fixture
def access(seaweed: Seaweed) -> Access:
    return Access(seaweed.endpoint, seaweed.admin.access_key, seaweed.admin.secret_key, "us-east-1")


def test_missing_buckets_are_made_and_what_is_in_the_others_stays(access: Access, seaweed: Seaweed) -> None:
    make_buckets(access, ["first"])
    seaweed.client().put_object(Bucket="first", Key="kept", Body=b"x")
    make_buckets(access, ["first", "second"])
    assert {"first", "second"} <= set(list_buckets(access))
    assert seaweed.client().get_object(Bucket="first", Key="kept")["Body"].read() == b"x"


def test_a_session_token_of_another_account_is_not_sent(access: Access, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SESSION_TOKEN", "of-another-account")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert list_buckets(access)


def test_wrong_credentials_are_named_without_the_secret(access: Access) -> None:
    wrong = replace(access, secret_key="wrong-secret")  # noqa: S106 - wrong on purpose
    with pytest.raises(StorageError, match="SignatureDoesNotMatch") as refused:
        list_buckets(wrong)
    assert "wrong-secret" not in f"{refused.value} {wrong!r}"
    assert "AWS_SECRET_ACCESS_KEY" in refused.value.remedy


def test_no_server_is_named_with_its_address(access: Access) -> None:
    with pytest.raises(StorageError, match=r"127\.0\.0\.1:9"):
        make_buckets(replace(access, endpoint="http://127.0.0.1:9"), ["first"])


def test_an_impossible_name_is_named(access: Access) -> None:
    with pytest.raises(StorageError, match="Not_A_Bucket"):
        make_buckets(access, ["Not_A_Bucket"])

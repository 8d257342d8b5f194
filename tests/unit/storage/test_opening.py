"""From REGIOLECT_STORE to an open store: locations, a place for each region, and nobody in another's."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regiolect.contracts import Blob, Target
from regiolect.errors import ContentMissing, ForeignStore, InvalidSetting, StorageError
from regiolect.integrity import digest_bytes
from regiolect.policy import PolicyBook
from regiolect.settings import load_settings, shared_store, store_of
from regiolect.storage import LocalStore, RegionalStore, S3Store, Store, find_store, open_store
from tests.seaweed import Seaweed

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["local", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A location, of either kind, that nobody has used."""
    if request.param == "local":
        return str(tmp_path / "stores")
    request.getfixturevalue("aws")
    return str(request.getfixturevalue("place"))


def fresh(location: str, tmp_path: Path, region: str | None = None) -> Store:
    """Opened as by another process: what this one knows of the place is not asked."""
    store: LocalStore | S3Store
    store = S3Store(location, tmp_path / "c") if location.startswith("s3://") else LocalStore(Path(location))
    store.claim(region)
    return store


# ------------------------------------------------------------------------------------------------------- locations


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REGIOLECT_HOME", "home")
    monkeypatch.setenv("REGIOLECT_STORE", "")
    monkeypatch.delenv("REGIOLECT_STORE")
    return monkeypatch


def test_unset_it_is_one_folder_for_all_in_home(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = load_settings()
    blob = settings.store("eu").put_bytes(b"engine")
    assert blob.uri.startswith((tmp_path / "home" / "store").as_uri())
    assert settings.store("na").has(blob) and settings.store().has(blob)


def test_opening_the_folder_of_all_writes_nothing(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert list(load_settings().store("eu").records("targets", Target)) == []
    assert not (tmp_path / "home").exists()


def test_a_relative_folder_is_made_absolute_once(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    environment.setenv("REGIOLECT_STORE", "kept/{region}")
    load_settings()
    environment.chdir("/")
    blob = load_settings().store("eu").put_bytes(b"engine")
    assert blob.uri.startswith((tmp_path / "kept" / "eu" / "blobs").as_uri())


def test_what_is_of_a_region_is_kept_with_it_and_the_rest_is_shared(
    environment: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environment.setenv("REGIOLECT_STORE", "kept/{region}")
    own, shared = store_of(PolicyBook().load("eu")).put_bytes(b"engine"), shared_store().put_bytes(b"graph")
    assert own.uri.startswith((tmp_path / "kept" / "eu" / "blobs").as_uri())
    assert shared.uri.startswith((tmp_path / "kept" / "shared" / "blobs").as_uri())


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "http://bucket/prefix",
        "file:///tmp/store",
        "s3:bucket/prefix",
        "s3:/bucket/prefix",
        "s3://",
        "s3:///prefix",
        "s3://Bucket/prefix",
        "s3://b/prefix",
        "s3://bucket//prefix",
        "s3://bucket/../prefix",
        "s3://bucket/prefix?region=eu",
        "s3://bucket/{regoin}",
        "s3://{region}/{model}",
        "stores/{regoin}",
        "stores/{region",
        "~nobody-of-that-name/store",
    ],
)
def test_an_unusable_location_is_named(environment: pytest.MonkeyPatch, wrong: str) -> None:
    environment.setenv("REGIOLECT_STORE", wrong)
    with pytest.raises(InvalidSetting, match="REGIOLECT_STORE") as caught:
        load_settings()
    assert "s3://bucket/prefix" in caught.value.remedy


def test_a_misspelt_placeholder_is_shown(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("REGIOLECT_STORE", "s3://bucket/{regoin}")
    with pytest.raises(InvalidSetting, match=r"no placeholder but \{region\}; found \{regoin\}"):
        load_settings()


@pytest.mark.parametrize("wrong", ["s3://AKIA:se/cret@bucket/prefix", "https://me:se/cret@host/b", "s3:me:se/cret@b"])
def test_credentials_in_a_location_are_refused_and_not_shown(environment: pytest.MonkeyPatch, wrong: str) -> None:
    environment.setenv("REGIOLECT_STORE", wrong)
    with pytest.raises(InvalidSetting, match="AWS_SECRET_ACCESS_KEY") as caught:
        load_settings()
    assert "cret" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}".replace("SECRET", "")


def test_a_region_called_like_the_shared_place_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSetting, match="'shared'"):
        open_store(str(tmp_path / "{region}"), tmp_path / "cache", "shared")


def test_an_s3_store_without_boto3_says_what_to_install(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None; from pathlib import Path; from regiolect.storage import open_store\n"
        "from regiolect.errors import StorageError\n"
        "try: open_store('s3://bucket', Path('cache'))\n"
        "except StorageError as error: print(error.remedy)"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "pip install 'regiolect[s3]'\n"


def test_boto3_is_loaded_for_an_s3_store_alone(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; import regiolect.settings, regiolect.cli.app\n"
        "from regiolect.storage import open_store\n"
        "open_store(sys.argv[1] + '/{region}', Path(sys.argv[1]) / 'cache', 'eu').put_bytes(b'engine')\n"
        "print([name for name in ('boto3', 'botocore') if name in sys.modules])"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# ------------------------------------------------------------------------------------------------ a place a region


def test_a_region_writes_to_its_own_and_reads_the_shared(location: str, tmp_path: Path) -> None:
    shared = open_store(f"{location}/{{region}}", tmp_path / "cache")
    eu = open_store(f"{location}/{{region}}", tmp_path / "cache", "eu")
    na = open_store(f"{location}/{{region}}", tmp_path / "cache", "na")
    exported, built = shared.put_bytes(b"graph"), eu.put_bytes(b"engine")
    assert "/shared/blobs/" in exported.uri
    assert "/eu/blobs/" in built.uri
    assert eu.path_of(exported).read_bytes() == na.path_of(exported).read_bytes() == b"graph"
    assert eu.has(exported) and eu.has(built) and not shared.has(built) and not na.has(built)
    for other in (na, shared):
        with pytest.raises(ContentMissing):
            other.path_of(built)


def test_records_are_a_regions_own(location: str, tmp_path: Path) -> None:
    shared = open_store(f"{location}/{{region}}", tmp_path / "cache")
    eu = open_store(f"{location}/{{region}}", tmp_path / "cache", "eu")
    eu.put_record("targets", "one", Target(name="own", backend="openvino"))
    shared.put_record("targets", "two", Target(name="shared", backend="openvino"))
    assert [found.name for found in eu.records("targets", Target)] == ["own"]
    assert eu.get_record("targets", "two", Target) is None


def test_content_in_neither_place_is_named_with_both(location: str, tmp_path: Path) -> None:
    eu = open_store(f"{location}/{{region}}", tmp_path / "cache", "eu")
    with pytest.raises(ContentMissing, match=r"/eu/.*/shared/"):
        eu.path_of(Blob(uri="", digest=digest_bytes(b"never"), size=5))


def test_a_file_goes_to_the_regions_own(location: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"engine")
    blob = open_store(f"{location}/{{region}}", tmp_path / "cache", "eu").put_file(tmp_path / "file")
    assert "/eu/blobs/" in blob.uri


def test_a_bucket_a_region_works_too(aws: Seaweed, place: str, tmp_path: Path) -> None:
    location = place.replace("s3://regiolect/", "s3://{region}-store/")
    for bucket in ("eu-store", "shared-store"):
        aws.client().create_bucket(Bucket=bucket)
    blob = open_store(location, tmp_path / "cache", "eu").put_bytes(b"engine")
    assert blob.uri.startswith("s3://eu-store/")


def test_a_region_without_a_place_is_not_given_one_by_a_look(location: str, tmp_path: Path) -> None:
    places = f"{location}/{{region}}"
    assert find_store(places, tmp_path / "cache", "eu") is None
    assert find_store(places, tmp_path / "cache", "eu") is None, "the look left no mark"
    own = open_store(places, tmp_path / "cache", "eu")
    blob = own.put_bytes(b"engine")
    own.put_record("latest", "tiny--eu--cpu", blob)
    found = find_store(places, tmp_path / "cache", "eu")
    assert found is not None
    assert list(found.record_keys("latest")) == ["tiny--eu--cpu"]


def test_a_bucket_that_is_not_there_is_no_place(aws: Seaweed, tmp_path: Path) -> None:
    assert find_store("s3://no-bucket-of-{region}/x", tmp_path, "eu") is None


def test_a_place_of_all_is_found_for_any_region(tmp_path: Path) -> None:
    shared = str(tmp_path / "store")
    assert find_store(shared, tmp_path, "eu") is open_store(shared, tmp_path)


def test_a_place_is_opened_once(location: str, tmp_path: Path) -> None:
    template = f"{location}/{{region}}"
    first = open_store(template, tmp_path / "cache", "eu")
    again = open_store(template, tmp_path / "cache", "eu")
    assert isinstance(first, RegionalStore) and isinstance(again, RegionalStore)
    assert first.own is again.own and first.shared is again.shared
    assert first.own is not first.shared


def test_other_credentials_make_another_store(
    aws: Seaweed, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_store(place, tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    with pytest.raises(StorageError, match="SignatureDoesNotMatch"):
        open_store(place, tmp_path)


# ---------------------------------------------------------------------------------------------- nobody in another's


def test_a_place_marked_by_one_region_is_closed_to_all_others(location: str, tmp_path: Path) -> None:
    fresh(location, tmp_path, "eu")
    fresh(location, tmp_path, "eu")
    for other, named in (("na", "region 'na'"), ("shared", "what belongs to no region"), (None, "all regions")):
        with pytest.raises(ForeignStore, match=f"a store of {named} at .* found one of region 'eu'") as caught:
            fresh(location, tmp_path, other)
        assert "REGIOLECT_STORE=s3://bucket/{region}" in caught.value.remedy


def test_a_place_of_all_is_open_to_any_region(location: str, tmp_path: Path) -> None:
    for region in (None, None, "eu"):
        fresh(location, tmp_path, region)


def test_the_marker_says_whose_it_is(aws: Seaweed, place: str, tmp_path: Path) -> None:
    open_store(f"{place}/{{region}}", tmp_path, "eu")
    open_store(f"{place}/all", tmp_path)
    prefix = place.removeprefix("s3://regiolect/")
    for name, region in (("eu", "eu"), ("shared", "shared"), ("all", None)):
        found = aws.client().get_object(Bucket="regiolect", Key=f"{prefix}/{name}/store.json")["Body"].read()
        assert json.loads(found) == {"format": 1, "region": region}


def test_of_many_that_mark_a_new_place_one_wins(location: str, tmp_path: Path) -> None:
    def claim(region: str) -> str | None:
        try:
            fresh(location, tmp_path, region)
        except ForeignStore:
            return None
        return region

    with ThreadPoolExecutor(16) as pool:
        winners = {region for region in pool.map(claim, ["eu", "na", "jp", "br"] * 4) if region}
    assert len(winners) == 1
    fresh(location, tmp_path, winners.pop())


def test_a_folder_that_was_there_before_markers_stays_usable(tmp_path: Path) -> None:
    blob = LocalStore(tmp_path / "store").put_bytes(b"engine")
    assert open_store(str(tmp_path / "store"), tmp_path / "cache", "eu").has(blob)


def test_a_marker_that_does_not_read_closes_the_store(tmp_path: Path) -> None:
    for text in ("", "{}", '{"format": 2, "region": "eu"}', "<html>"):
        (tmp_path / "store.json").write_text(text)
        with pytest.raises(StorageError, match="a marker of format 1"):
            fresh(str(tmp_path), tmp_path, "eu")


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="REGIOLECT_STORE"):
        open_store(str(tmp_path / "file" / "{region}"), tmp_path / "cache", "eu")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]

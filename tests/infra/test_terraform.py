"""The Terraform modules: their structure, and the policy documents that they really render."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import hcl2
import pytest

TERRAFORM = shutil.which("terraform")
needs_terraform = pytest.mark.skipif(TERRAFORM is None, reason="terraform is not on PATH")
ACCOUNT = "123456789012"
INLINE_POLICY_LIMIT = 10_240


@pytest.fixture(scope="module")
def folder(infra: Path) -> Path:
    return infra / "terraform"


def parsed(folder: Path) -> list[dict[str, Any]]:
    documents = []
    for path in sorted(folder.glob("*.tf")):
        with path.open() as file:
            documents.append(hcl2.load(file))
    return documents


def clean(value: Any) -> Any:
    """Without the quotes that the parser leaves around strings and names."""
    if isinstance(value, str):
        return value.removeprefix('"').removesuffix('"')
    if isinstance(value, list):
        return [clean(item) for item in value]
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items() if key != "__is_block__"}
    return value


def blocks(folder: Path, kind: str) -> Iterator[dict[str, Any]]:
    for document in parsed(folder):
        yield from clean(document.get(kind, []))


def resources(folder: Path) -> dict[str, dict[str, Any]]:
    """Each resource's body by type; no module here has two of a type."""
    found: dict[str, dict[str, Any]] = {}
    for block in blocks(folder, "resource"):
        for kind, named in block.items():
            assert kind not in found
            [found[kind]] = named.values()
    return found


@needs_terraform
def test_it_is_formatted_as_terraform_wants_it(folder: Path) -> None:
    told = subprocess.run(
        [str(TERRAFORM), "fmt", "-check", "-recursive", "-diff", folder], capture_output=True, text=True
    )
    assert told.returncode == 0, told.stdout


def test_the_default_regions_are_those_of_the_policies(folder: Path, regions: frozenset[str]) -> None:
    [variable] = [block["regions"] for block in blocks(folder, "variable") if "regions" in block]
    assert set(variable["default"]) == regions
    places = [region["aws_region"] for region in variable["default"].values()]
    assert all(re.fullmatch(r"[a-z]{2}-[a-z]+-\d", place) for place in places)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("module", ["", "modules/bucket", "modules/region"])
def test_the_provider_is_pinned(module: str, folder: Path) -> None:
    [settings] = blocks(folder / module, "terraform")
    [providers] = settings["required_providers"]
    # `region` as an argument of every resource came with 6.0; a new major version may take anything away.
    assert providers["aws"] == {"source": "hashicorp/aws", "version": "~> 6.0"}
    assert settings["required_version"].startswith(">= 1.")


def test_every_bucket_is_made_by_the_one_module(folder: Path) -> None:
    made = [path for path in folder.rglob("*.tf") if 'resource "aws_s3_bucket"' in path.read_text()]
    assert made == [folder / "modules" / "bucket" / "main.tf"]


def test_a_bucket_is_private_encrypted_versioned_and_kept(folder: Path) -> None:
    found = resources(folder / "modules" / "bucket")
    for kind, body in found.items():
        if kind.startswith("aws_s3_bucket_"):
            assert body["bucket"] == "${aws_s3_bucket.this.id}", kind
        assert body["region"] == "${var.aws_region}", kind
    block = found["aws_s3_bucket_public_access_block"]
    assert [
        block[name]
        for name in ("block_public_acls", "block_public_policy", "ignore_public_acls", "restrict_public_buckets")
    ] == [True] * 4
    [rule] = found["aws_s3_bucket_server_side_encryption_configuration"]["rule"]
    assert rule["apply_server_side_encryption_by_default"] == [
        {"sse_algorithm": "aws:kms", "kms_master_key_id": "${aws_kms_key.this.arn}"}
    ]
    assert found["aws_s3_bucket_versioning"]["versioning_configuration"] == [{"status": "Enabled"}]
    assert found["aws_s3_bucket_ownership_controls"]["rule"] == [{"object_ownership": "BucketOwnerEnforced"}]
    [lifecycle] = found["aws_s3_bucket_lifecycle_configuration"]["rule"]
    assert lifecycle["status"] == "Enabled"
    assert lifecycle["abort_incomplete_multipart_upload"] == [{"days_after_initiation": 7}]
    assert found["aws_s3_bucket_policy"]["policy"] == "${module.documents.bucket_policy}"
    assert found["aws_kms_key"]["enable_key_rotation"] is True
    assert found["aws_kms_key_policy"]["policy"] == "${module.documents.key_policy}"
    for kept in ("aws_s3_bucket", "aws_kms_key"):
        assert found[kept]["lifecycle"] == [{"prevent_destroy": True}]


@pytest.mark.parametrize("module", ["", "modules/region"])
def test_a_role_has_one_policy_of_its_own_and_no_other(module: str, folder: Path) -> None:
    found = resources(folder / module)
    assert set(found) == {"aws_iam_role", "aws_iam_role_policy"}
    documents = "module.control_documents" if not module else "module.documents"
    assert found["aws_iam_role"]["assume_role_policy"] == f"${{{documents}.trust}}"
    assert found["aws_iam_role_policy"]["policy"] == f"${{{documents}.permissions}}"


def test_a_region_may_write_its_own_bucket_and_read_the_shared_one(folder: Path) -> None:
    modules = {name: body for block in blocks(folder / "modules" / "region", "module") for name, body in block.items()}
    assert modules["documents"]["reads"] == ["${var.shared}"]
    assert "module.bucket.location" in str(modules["documents"]["writes"])
    assert modules["documents"]["service_account"] == "regiolect-${var.region}"


def location(name: str, place: str = "eu-west-1") -> dict[str, str]:
    return {
        "bucket_arn": f"arn:aws:s3:::acme-regiolect-{name}",
        "key_arn": f"arn:aws:kms:{place}:{ACCOUNT}:key/00000000-0000-0000-0000-0000000000{name}",
        "aws_region": place,
        "prefix": "store",
    }


@pytest.fixture(scope="module")
def documents(folder: Path, regions: frozenset[str], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The policies that the two modules without resources render."""
    assert TERRAFORM
    place = tmp_path_factory.mktemp("documents")
    oidc = {
        "provider_arn": f"arn:aws:iam::{ACCOUNT}:oidc-provider/oidc.example.com/id/A",
        "issuer": "oidc.example.com/id/A",
    }
    account = {"namespace": "regiolect", "oidc": oidc}
    calls: dict[str, dict[str, Any]] = {
        "bucket": {
            "source": "./bucket_documents",
            "name": "acme-regiolect-eu",
            "aws_region": "eu-west-1",
            "account_id": ACCOUNT,
            "partition": "aws",
            "key_arn": location("eu")["key_arn"],
            "writer_arns": [f"arn:aws:iam::{ACCOUNT}:role/acme-regiolect-eu"],
        },
        "region": {
            "source": "./role_documents",
            "service_account": "regiolect-eu",
            "writes": [location("eu")],
            "reads": [location("shared", "us-east-1")],
            **account,
        },
        "control": {
            "source": "./role_documents",
            "service_account": "regiolect-control",
            "writes": [
                location("shared"),
                *({**location(name), "paths": ["records/*", "store.json"]} for name in sorted(regions)),
            ],
            **account,
        },
    }
    outputs = {
        "bucket": ("bucket_policy", "key_policy"),
        "region": ("trust", "permissions"),
        "control": ("trust", "permissions"),
    }
    for module in ("bucket_documents", "role_documents"):
        shutil.copytree(folder / "modules" / module, place / module)
    (place / "main.tf.json").write_text(
        json.dumps(
            {
                "module": calls,
                "output": {
                    f"{call}_{output}": {"value": f"${{module.{call}.{output}}}"}
                    for call, names in outputs.items()
                    for output in names
                },
            }
        )
    )
    environment = {**os.environ, "CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1"}
    for arguments in (["init", "-input=false"], ["apply", "-input=false", "-auto-approve"], ["output", "-json"]):
        told = subprocess.run(
            [TERRAFORM, *arguments], cwd=place, env=environment, capture_output=True, text=True, check=False
        )
        assert told.returncode == 0, told.stderr
    return {name: json.loads(output["value"]) for name, output in json.loads(told.stdout).items()}


def statements(document: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {statement["Sid"]: statement for statement in document["Statement"]}


@needs_terraform
def test_a_bucket_refuses_plain_connections_and_other_keys(documents: dict[str, Any]) -> None:
    found = statements(documents["bucket_bucket_policy"])
    bucket = location("eu")["bucket_arn"]
    assert {statement["Effect"] for statement in found.values()} == {"Deny"}
    assert {statement["Principal"] for statement in found.values()} == {"*"}
    assert found["OnlyTls"]["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert (found["OnlyTls"]["Action"], found["OnlyTls"]["Resource"]) == ("s3:*", [bucket, f"{bucket}/*"])
    assert found["OnlyKms"]["Condition"]["StringNotEquals"] == {"s3:x-amz-server-side-encryption": "aws:kms"}
    header = "s3:x-amz-server-side-encryption-aws-kms-key-id"
    assert found["OnlyItsKey"]["Condition"]["ArnNotEquals"] == {header: location("eu")["key_arn"]}
    for sid in ("OnlyKms", "OnlyItsKey"):
        # A request without the header gets the bucket's default and must not be refused.
        assert set(found[sid]["Condition"]["Null"].values()) == {"false"}


@needs_terraform
def test_a_key_is_used_by_its_roles_through_s3_alone(documents: dict[str, Any]) -> None:
    found = statements(documents["bucket_key_policy"])
    assert set(found) == {"Administration", "Writers"}
    assert not [action for action in found["Administration"]["Action"] if "*" in action or "crypt" in action.lower()]
    assert found["Writers"]["Principal"] == {"AWS": [f"arn:aws:iam::{ACCOUNT}:role/acme-regiolect-eu"]}
    assert found["Writers"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert found["Writers"]["Condition"] == {"StringEquals": {"kms:ViaService": "s3.eu-west-1.amazonaws.com"}}


@needs_terraform
def test_a_role_is_for_one_service_account(documents: dict[str, Any]) -> None:
    [statement] = documents["region_trust"]["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert statement["Condition"] == {
        "StringEquals": {
            "oidc.example.com/id/A:sub": "system:serviceaccount:regiolect:regiolect-eu",
            "oidc.example.com/id/A:aud": "sts.amazonaws.com",
        }
    }


@needs_terraform
def test_a_regions_role_reaches_its_own_bucket_and_reads_the_shared_one(documents: dict[str, Any]) -> None:
    found = statements(documents["region_permissions"])
    own, shared = location("eu"), location("shared", "us-east-1")
    assert found["Read"]["Action"] == ["s3:GetObject"]
    assert found["Read"]["Resource"] == [f"{own['bucket_arn']}/store/*", f"{shared['bucket_arn']}/store/*"]
    assert found["Write"]["Action"] == ["s3:AbortMultipartUpload", "s3:ListMultipartUploadParts", "s3:PutObject"]
    assert found["Write"]["Resource"] == [f"{own['bucket_arn']}/store/*"]
    assert found["List"]["Condition"] == {"StringLikeIfExists": {"s3:prefix": ["store/*"]}}
    assert found["Encrypt"]["Action"] == ["kms:Decrypt", "kms:GenerateDataKey"]
    assert found["Encrypt"]["Resource"] == [own["key_arn"]]
    assert (found["Decrypt"]["Action"], found["Decrypt"]["Resource"]) == (["kms:Decrypt"], [shared["key_arn"]])
    assert found["Decrypt"]["Condition"] == {"StringEquals": {"kms:ViaService": ["s3.us-east-1.amazonaws.com"]}}


@needs_terraform
def test_control_writes_records_of_regions_and_nothing_else_there(documents: dict[str, Any]) -> None:
    found = statements(documents["control_permissions"])
    written = [resource for resource in found["Write"]["Resource"] if "-shared/" not in resource]
    assert {resource.split("/store/")[1] for resource in written} == {"records/*", "store.json"}
    assert f"{location('shared')['bucket_arn']}/store/*" in found["Write"]["Resource"]


@needs_terraform
@pytest.mark.parametrize("role", ["region", "control"])
def test_no_role_may_delete_or_do_everything(role: str, documents: dict[str, Any]) -> None:
    document = documents[f"{role}_permissions"]
    for statement in document["Statement"]:
        assert statement["Effect"] == "Allow"
        for action in statement["Action"]:
            assert "*" not in action and "Delete" not in action and not action.startswith("iam:")
        for resource in statement["Resource"]:
            assert resource.count("*") == resource.endswith("/*") and resource.startswith("arn:aws:")
    assert len(json.dumps(document, separators=(",", ":"))) < INLINE_POLICY_LIMIT

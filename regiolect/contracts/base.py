"""What every contract shares: identifiers, digests, content, and the precisions that all stages speak of."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

# Words joined by single dashes, so that names can be joined by double ones and taken apart again.
_NAME = r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$"

Digest = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$", description="sha256 of canonical bytes")]
RegionId = Annotated[str, Field(pattern=_NAME, description="a region's short name")]
TargetId = Annotated[str, Field(pattern=_NAME, description="a target's short name")]


def short(digest: str) -> str:
    """The first twelve hexadecimal digits of a digest, for people to read."""
    return digest.removeprefix("sha256:")[:12]


class Contract(BaseModel):
    """A stage type: immutable, and refusing what it does not know and numbers that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Blob(Contract):
    """Content kept in the artifact store."""

    uri: str
    digest: Digest
    size: NonNegativeInt


class NamedBlob(Contract):
    """A file of a bundle: its relative path there and its content."""

    path: str
    blob: Blob


class Precision(StrEnum):
    """The type of a graph, as a policy states it."""

    FP32 = "FP32"
    FP16 = "FP16"
    INT8 = "INT8"


class Execution(StrEnum):
    """The type in which a kernel computes. precision.py orders them."""

    FP32 = "FP32"
    TF32 = "TF32"
    FP16 = "FP16"
    BF16 = "BF16"
    INT8 = "INT8"


class Arithmetic(StrEnum):
    """How a processor sums 8 x 8 bit products: the class to which an INT8 engine's answers, and its approval, belong.

    saturating: x86 without VNNI adds pairs of products in int16, and what exceeds that is lost.
    vnni: x86 with AVX512-VNNI or AVX-VNNI sums in int32.
    amx: x86 with AMX-INT8 sums in int32, by tiles.
    arm: 64-bit Arm.
    """

    SATURATING = "saturating"
    VNNI = "vnni"
    AMX = "amx"
    ARM = "arm"

"""What a policy may ask of TensorRT in a target's `options`.

What is not stated is TensorRT's own default, except where a comment here says otherwise.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveInt, field_validator

from regiolect.contracts import Contract, Precision

ComputeCapability = Literal["SM75", "SM80", "SM86", "SM89", "SM120", "SM121"]
_AMPERE_AND_LATER: tuple[ComputeCapability, ...] = ("SM80", "SM86", "SM89", "SM120", "SM121")
# One plan of TensorRT-RTX runs on every GPU it lists. Turing has no FP32 matrix kernels there.
COMPUTE_CAPABILITIES: dict[Precision, tuple[ComputeCapability, ...]] = {
    Precision.FP32: _AMPERE_AND_LATER,
    Precision.FP16: ("SM75", *_AMPERE_AND_LATER),
    Precision.INT8: ("SM75", *_AMPERE_AND_LATER),
}


class Options(Contract):
    """What a policy may state in a target's `options` for either flavour."""

    workspace_mib: PositiveInt | None = Field(
        default=None, description="most device memory that a kernel may take for scratch, in MiB"
    )
    max_aux_streams: NonNegativeInt | None = Field(
        default=None, description="most streams beside its own on which a plan runs kernels that wait for nothing"
    )

    def without_kernels(self, precision: Precision) -> str | None:
        """Which option asks for a plan of that precision for GPUs that lack kernels for it; None if none does."""
        return None


class RtxOptions(Options):
    """What a policy may state in a target's `options` for TensorRT-RTX."""

    compute_capabilities: Annotated[tuple[ComputeCapability, ...], Field(min_length=1)] | None = Field(
        default=None, description="GPUs that a plan is for; every one that the precision has kernels for"
    )

    @field_validator("compute_capabilities")
    @classmethod
    def _each_once(cls, given: tuple[ComputeCapability, ...] | None) -> tuple[ComputeCapability, ...] | None:
        if given is not None and len(set(given)) != len(given):
            raise ValueError(f"each compute capability once, found {', '.join(given)}")
        return given

    def without_kernels(self, precision: Precision) -> str | None:
        capabilities = COMPUTE_CAPABILITIES[precision]
        without = [name for name in self.compute_capabilities or () if name not in capabilities]
        if not without:
            return None
        return (
            f"compute_capabilities: TensorRT-RTX lacks {precision} kernels for {', '.join(without)}, and has them all "
            f"for {', '.join(capabilities)}"
        )

    def listed(self, precision: Precision) -> tuple[ComputeCapability, ...]:
        """The compute capabilities that a plan of that precision is built for."""
        return self.compute_capabilities or COMPUTE_CAPABILITIES[precision]


class PlainOptions(Options):
    """What a policy may state in a target's `options` for plain TensorRT."""

    builder_optimization_level: Annotated[int, Field(ge=0, le=5)] = Field(
        default=3, description="0 builds fastest, 5 looks longest for fast kernels"
    )
    hardware_compatibility: Literal["none", "same_compute_capability", "ampere_plus"] = Field(
        default="none", description="GPUs that a plan runs on besides the model that it was built on; costs speed"
    )
    version_compatible: bool = Field(
        default=False,
        description="the plan also runs with later versions of TensorRT, on hosts with its own version's lean runtime",
    )
    refittable: bool = Field(
        default=False,
        description="when only weights changed, they are put into the plan that was built before; costs speed",
    )

"""Region policies: what a region allows, promises and requires, as one YAML file each.

`extends` inherits every field that the child does not state. A child may tighten what its parent says and never
loosen it. The digest covers the resolved policy, so two files that say the same have the same digest.
"""

from regiolect.policy.book import PolicyBook, builtin_policies, copy_builtin, write_schema
from regiolect.policy.rules import (
    AccuracyLimit,
    ApprovalRules,
    CalibrationRules,
    LatencyLimit,
    NightlyRules,
    RegionPolicy,
    RepairRules,
    SampleMinimum,
    SliceRules,
    SpeedLimit,
)

__all__ = [
    "AccuracyLimit",
    "ApprovalRules",
    "CalibrationRules",
    "LatencyLimit",
    "NightlyRules",
    "PolicyBook",
    "RegionPolicy",
    "RepairRules",
    "SampleMinimum",
    "SliceRules",
    "SpeedLimit",
    "builtin_policies",
    "copy_builtin",
    "write_schema",
]

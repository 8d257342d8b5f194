"""What a release would do, and why.

`address` finds the model, `asked` is what a release is asked for and planned against, `request` makes build keys,
`kept` is what builds came to, `changes` tells two keys apart in words, `release` compares what is asked for with what
is kept, `served` with what consumers load, `settled` says what became of it, `retired` finds what nobody asks for any
more, `many` plans several models in one look, `ahead` hands a plan to the flow that works by it, `order` is what a
machine is told to do, `plan` and `document` say it, `reviewed` keeps it for review. Import from here.
"""

from regiolect.planning.address import address_given, address_of, load_model_spec, require_current
from regiolect.planning.ahead import planned_ahead, take_plan
from regiolect.planning.asked import Installation, Names, ReleaseRequest, Stores, names_given
from regiolect.planning.changes import Difference, Sources, differences, differences_between, policy_changes
from regiolect.planning.document import EngineEntry, ModelEntry, PlanDocument, document_of, engines_of
from regiolect.planning.kept import (
    LATEST,
    OUTCOMES,
    POLICIES,
    RUNS,
    answer,
    answer_of,
    as_signed,
    finished,
    held_of,
    keep,
    keep_held,
    latest_key,
    latest_of,
    tell,
)
from regiolect.planning.many import ModelPlan, plan_models, plan_models_here
from regiolect.planning.order import BuildOrder, TuneOrder
from regiolect.planning.plan import HERE, SUMMARY, WORK, Action, Plan, PlannedEngine, has_work, summary_of
from regiolect.planning.release import plan_here, plan_release, request_here, why_built
from regiolect.planning.request import (
    MACHINES,
    RegionRequest,
    class_here,
    class_parts,
    engine_key,
    has_classes,
    machine_parts,
    on_this_machine,
    require_planned,
    target_parts,
)
from regiolect.planning.reviewed import (
    ReviewedPlan,
    asked_for,
    planned_alone,
    read_plan,
    require_as_reviewed,
    to_review,
    write_plan,
)
from regiolect.planning.served import Champions
from regiolect.planning.settled import Settled, settle

__all__ = [
    "HERE",
    "LATEST",
    "MACHINES",
    "OUTCOMES",
    "POLICIES",
    "RUNS",
    "SUMMARY",
    "WORK",
    "Action",
    "BuildOrder",
    "Champions",
    "Difference",
    "EngineEntry",
    "Installation",
    "ModelEntry",
    "ModelPlan",
    "Names",
    "Plan",
    "PlanDocument",
    "PlannedEngine",
    "RegionRequest",
    "ReleaseRequest",
    "ReviewedPlan",
    "Settled",
    "Sources",
    "Stores",
    "TuneOrder",
    "address_given",
    "address_of",
    "answer",
    "answer_of",
    "as_signed",
    "asked_for",
    "class_here",
    "class_parts",
    "differences",
    "differences_between",
    "document_of",
    "engine_key",
    "engines_of",
    "finished",
    "has_classes",
    "has_work",
    "held_of",
    "keep",
    "keep_held",
    "latest_key",
    "names_given",
    "latest_of",
    "load_model_spec",
    "machine_parts",
    "on_this_machine",
    "plan_here",
    "plan_models",
    "plan_models_here",
    "plan_release",
    "planned_ahead",
    "planned_alone",
    "policy_changes",
    "read_plan",
    "request_here",
    "require_as_reviewed",
    "require_current",
    "require_planned",
    "settle",
    "summary_of",
    "take_plan",
    "target_parts",
    "tell",
    "to_review",
    "why_built",
    "write_plan",
]

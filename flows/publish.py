"""A region's approved engines to its consumers, past a person where the policy asks for one."""

from __future__ import annotations

from datetime import UTC, datetime

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.exceptions import FlowPauseTimeout
from prefect.flow_runs import pause_flow_run
from prefect.input import RunInput
from pydantic import Field

from regiolect import progress
from regiolect.contracts import ExportedModel, Published, RegionOutcome
from regiolect.errors import ApprovalMissing
from regiolect.policy import RegionPolicy
from regiolect.release.approval import PersonsAnswer, answer_given, in_question, keep_answer, question, require_yes
from regiolect.settings import load_settings, store_of
from tasks.publish import champion, publish

_POLL_SECONDS = 2


class Answer(RunInput):
    """The form that the approver fills in."""

    approve: bool = Field(default=False, title="Serve these engines?", description="Left unticked, it means no.")
    name: str = Field(title="Your name", min_length=2, description="Kept with the decision.")
    comment: str = Field(default="", title="Comment", description="Why; shown in the report when the answer is no.")


@task(name="publish", task_run_name="publish-{policy.region}", cache_policy=NO_CACHE)
def publish_region(
    address: str,
    model: ExportedModel,
    outcomes: tuple[RegionOutcome, ...],
    policy: RegionPolicy,
    left_out: tuple[str, ...],
    force: bool,
) -> Published:
    """Publish one region's engines, one outcome a target, once everybody who has a say agreed.

    Args:
        address: where the ModelSpec is found, for its metric.
        left_out: targets of the region that this release does not touch.
        force: ask a person again who said no before.

    Raises:
        ApprovalMissing, RegistryError, StorageError, IntegrityError, OrchestratorError.
    """
    if policy.approval is not None:
        present = champion(model.name, policy.region)
        asked = in_question(outcomes, present.build_keys if present else ())
        if asked:
            _require_approval(asked, policy, force)
    return publish(address, model, outcomes, policy, left_out)


def _require_approval(asked: tuple[RegionOutcome, ...], policy: RegionPolicy, force: bool) -> None:
    given = answer_given(asked, store_of(policy))
    if given is None or (force and not given.approved):
        if not load_settings().has_server:
            raise ApprovalMissing(
                expected=f"a person's approval, which the policy of {policy.region!r} asks for",
                found="no Prefect server in whose pages a person could be asked",
                remedy="set PREFECT_API_URL, or start one with `regiolect up`, and run again: nothing is built twice",
            )
        given = ask_person(asked, policy)
        keep_answer(asked, given, store_of(policy))
    require_yes(given)


@flow(name="approve", flow_run_name="approve-{policy.region}")
def ask_person(asked: tuple[RegionOutcome, ...], policy: RegionPolicy) -> PersonsAnswer:
    """Pause until a person answers the form on this run's page, with the gate's figures in front of them.

    Raises:
        ApprovalMissing: nobody answered within the policy's time.
    """
    minutes = policy.approval.wait_minutes if policy.approval is not None else 0
    text = question(asked)
    create_markdown_artifact(text, key=f"approval-{policy.region}", description="What the approver is asked")
    progress.note(
        f"{policy.region}: waits {minutes:g} minutes for a person's approval, in the run `approve-{policy.region}`"
    )
    try:
        answer = pause_flow_run(
            wait_for_input=Answer.with_initial_data(description=text),
            timeout=max(1, round(minutes * 60)),
            poll_interval=_POLL_SECONDS,
        )
    except FlowPauseTimeout as error:
        raise ApprovalMissing(
            expected=f"a person's answer on {policy.region!r} within {minutes:g} minutes",
            found="none, which means no",
            remedy="release again and answer the form of the paused run; nothing is built twice",
        ) from error
    return PersonsAnswer(
        model=asked[0].model,
        region=policy.region,
        build_keys=tuple(outcome.build_key for outcome in asked),
        approved=answer.approve,
        by=answer.name,
        comment=answer.comment,
        at=datetime.now(UTC),
    )

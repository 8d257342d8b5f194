"""Base job templates of work pools, closed: a run chooses nothing that its pool's deployments do not set.

A template whose variables anybody may fill is a command line for whoever reaches the server: Prefect's own lets a run
name the command that its worker executes, its environment and its folder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect.utilities.templating import apply_values

from regiolect.errors import InvalidSetting
from regiolect.host.files import NOTE, read_file
from regiolect.integrity import parse_json


def template_of(pool_type: str, folder: Path | None) -> dict[str, Any]:
    """The template `<type>.json` of a folder; without one, Prefect's own for process pools.

    Raises:
        InvalidSetting: there is none, or it is none.
    """
    if folder is None and pool_type == "process":
        from prefect.workers.process import ProcessWorker

        return ProcessWorker.get_default_base_job_template()
    if folder is None:
        raise InvalidSetting(
            expected=f"a base job template for pools of type {pool_type}",
            found="no --job-templates",
            remedy="--job-templates infra/work_pools",
        )
    path = folder / f"{pool_type}.json"
    try:
        template = parse_json(read_file(path, NOTE))
    except (OSError, ValueError) as error:
        raise InvalidSetting(
            expected=f"a base job template in {path}",
            found=f"{type(error).__name__}: {error}",
            remedy="name another folder with --job-templates, or mend the file",
        ) from error
    if not isinstance(template, dict) or not {"job_configuration", "variables"} <= template.keys():
        raise InvalidSetting(
            expected=f"`job_configuration` and `variables` in {path}",
            found=", ".join(template) if isinstance(template, dict) else type(template).__name__,
            remedy=f"start from: prefect work-pool get-default-base-job-template --type {pool_type}",
        )
    return template


def closed(template: Mapping[str, Any], wanted: Sequence[Mapping[str, Any]], pool: str) -> dict[str, Any]:
    """A template whose variables take what `wanted` sets, and nothing else. Closing it again changes nothing.

    What no deployment sets is no variable any more: its default, the operator's word, is written into the job.

    Args:
        template: `job_configuration` and `variables`.
        wanted: the job variables of every deployment of the pool.
        pool: its name, for what is said.

    Raises:
        InvalidSetting: a deployment sets what the template does not know.
    """
    variables = template["variables"]
    properties: Mapping[str, Any] = variables.get("properties", {})
    names = {name for each in wanted for name in each}
    if missing := sorted(names - set(properties)):
        raise InvalidSetting(
            expected=f"a base job template of pool {pool!r} with what its deployments set: {', '.join(sorted(names))}",
            found=f"none of {', '.join(missing)}",
            remedy="regiolect pools apply --job-templates infra/work_pools, or a folder with templates of your own",
        )
    fixed = {
        name: schema["default"]
        for name, schema in properties.items()
        if name not in names and schema.get("default") is not None
    }
    kept = {name: f"{{{{ {name} }}}}" for name in names}
    required = [name for name in variables.get("required", ()) if name in names]
    return {
        **template,
        # As a worker would: what has no value is left out.
        "job_configuration": apply_values(template["job_configuration"], {**fixed, **kept}),
        "variables": {
            **{name: variables[name] for name in ("type", "description") if name in variables},
            "additionalProperties": False,
            **({"required": required} if required else {}),
            "properties": {
                name: _only(properties[name], _values(name, wanted)) for name in properties if name in names
            },
        },
    }


def _values(name: str, wanted: Sequence[Mapping[str, Any]]) -> list[Any]:
    """What deployments set a variable to, without repetition, in one order."""
    distinct = {json.dumps(each[name], sort_keys=True): each[name] for each in wanted if name in each}
    return [distinct[key] for key in sorted(distinct)]


def _only(schema: Mapping[str, Any], values: list[Any]) -> dict[str, Any]:
    """A variable's schema that takes these values, and its default where it has one."""
    properties = {name: schema[name] for name in ("title", "description", "type", "default") if name in schema}
    if "default" in schema and schema["default"] not in values:
        values = [schema["default"], *values]
    return {**properties, "enum": values}

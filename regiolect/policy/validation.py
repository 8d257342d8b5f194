"""A file's fields against the model of a policy: every mistake at once, none hidden by another."""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from regiolect.policy.files import PolicyFile
from regiolect.policy.inheritance import merged
from regiolect.policy.mistakes import Key, Mistake, explained
from regiolect.policy.rules import RegionPolicy

# Stands in for what a file should state and does not, so that the rest of it can be looked at.
_MADE_UP: Mapping[str, Any] = {
    "region": "made-up",
    "title": "made up",
    "reason": "made up, and seen by nobody",
    "precision": "FP32",
    "accuracy": {"metric": "accuracy", "limit": 0},
    "targets": [{"name": "made-up", "backend": "made-up"}],
}


def validated(
    file: PolicyFile, base: Mapping[str, Any], *, complete: bool
) -> tuple[RegionPolicy | None, Mapping[str, Any], list[Mistake]]:
    """The policy that a file makes on top of what it inherits, what is left of its fields, and all of its mistakes.

    What is wrong is taken out, what is missing is made up, and the rest is looked at again. Nothing that was made up is
    in what is returned; a policy beside mistakes is what the file says without them.

    Args:
        base: fields that are inherited.
        complete: they are all that is inherited, so that what is missing is missing.
    """
    stated, made_up = file.stated, dict[str, Any]()
    mistakes: list[Mistake] = []
    first = True
    while True:
        fields = merged(base, stated)
        policy, errors = _parsed({**made_up, **fields})
        if policy is not None:
            return (None if made_up else policy), fields, mistakes
        before, invented = stated, frozenset(made_up)
        for error in errors:
            missing = error["type"] == "missing"
            for keys, mistake in explained(error, file.where):
                own = [key for key in keys if file.states(key)]
                if (first and complete) if missing else not any(key[0] in invented for key in keys):
                    key = own[0] if own else keys[0] if keys else ()
                    mistakes.append(replace(mistake, line=file.line(key), key=".".join(key)))
                stated = functools.reduce(_without, own, stated)
            if missing:
                head = str(error["loc"][0])
                stated = _without(stated, (head,))
                if head not in base and head in _MADE_UP:
                    made_up[head] = _MADE_UP[head]
        first = False
        if stated == before and made_up.keys() == invented:
            return None, fields, mistakes


def _parsed(fields: Mapping[str, Any]) -> tuple[RegionPolicy | None, list[Any]]:
    try:
        # Through JSON, so that YAML's lists fill tuples and its texts fill enumerations; a text is no number.
        return RegionPolicy.model_validate_json(json.dumps(fields), strict=True), []
    except ValidationError as error:
        return None, error.errors()


def _without(fields: Mapping[str, Any], key: Key) -> Mapping[str, Any]:
    """Fields without one of them. An item of a list is never left out, for the others have their place by it: a list
    in which something else than a field too many is wrong is given up whole."""
    if not key or key[0] not in fields:
        return fields
    inner, rest = fields[key[0]], key[1:]
    if isinstance(inner, Mapping) and rest and rest[0] in inner:
        return {**fields, key[0]: _without(inner, rest)}
    if isinstance(inner, list) and len(rest) == 2 and isinstance(item := inner[int(rest[0])], Mapping):
        items = [*inner[: int(rest[0])], _without(item, rest[1:]), *inner[int(rest[0]) + 1 :]]
        return {**fields, key[0]: items}
    return {name: value for name, value in fields.items() if name != key[0]}

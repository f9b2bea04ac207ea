"""Into which queue a run goes, by which key, how urgent it is, and how long it may take."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from workflow.core import InvalidArgumentError
from workflow.core.arguments import Duration, identifier
from workflow.core.records import NewRun

from .registry import Registration, Registry
from .spans import checked_priority, limit_span

__all__ = ["Placement", "place"]


@dataclass(frozen=True, slots=True)
class Placement:
    """What one start asks for; None: what the registration says."""

    queue: str | None = None
    key: str | None = None
    priority: int | None = None
    timeout: Duration | None = None


def place(registry: Registry, new: NewRun, value: Any, asked: Placement) -> NewRun:
    """The run with its queue, key, priority and time limit; `value` is its input as the handler will see it.

    Raises `InvalidArgumentError` for a queue that this runtime doesn't have, a bad key, priority or timeout.
    """
    registration = registry.registration(new.workflow_id)
    timeout = registration.timeout if asked.timeout is None else asked.timeout
    queue = _queue(registry, registration, asked.queue)
    key = _key(registration, value) if asked.key is None else identifier(asked.key, "key")
    priority = checked_priority(registration.priority if asked.priority is None else asked.priority)
    if timeout is None and (queue, key, priority, None) == (new.queue, new.key, new.priority, new.expires_at):
        return new  # as nearly all are
    expires_at = None if timeout is None else new.due_at + limit_span(timeout, "timeout")
    return replace(new, queue=queue, key=key, priority=priority, expires_at=expires_at)


def _queue(registry: Registry, registration: Registration, asked: str | None) -> str | None:
    """The name, where it is not simply the workflow's own queue without limits."""
    own = registration.workflow_id
    name = asked if asked is not None else registration.queue or own
    if name != own and name not in registry.queues:
        names = ", ".join(map(repr, sorted(registry.queues))) or "none"
        raise InvalidArgumentError(
            f"This runtime has no queue {name!r} (it has: {names}). Declare it: "
            f"WorkflowRuntime(..., queues=[Queue({name!r}, ...)])."
        )
    if name != own and name in registry.ids:  # claims take nothing but that workflow's runs from it
        raise InvalidArgumentError(f"The queue {name!r} is the own one of workflow {name!r}: {own!r} can't be in it.")
    return name if name != own or name in registry.queues else None


def _key(registration: Registration, value: Any) -> str | None:
    if registration.key is None:
        return None
    key = registration.key(value)
    return None if key is None else identifier(key, f"the key of workflow {registration.workflow_id!r}")

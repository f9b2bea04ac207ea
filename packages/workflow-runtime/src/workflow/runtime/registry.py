"""Which workflows a process has, and where lazily imported ones come from."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from workflow.core import DefinitionError, InvalidArgumentError, Workflow
from workflow.core.arguments import Duration, identifier

from .queues import Holds, Queue, RateLimit, checked_queues
from .schedules.schedule import Schedule, checked_schedules
from .spans import checked_priority, span

__all__ = ["Registration", "Registry"]


@dataclass(frozen=True, eq=False)
class Registration:
    """A workflow by its import path ("app.digest:digest"), imported when it is first needed, or by itself.

    `id` must be given with a path, and be the workflow's own. The path comes from the code of the app, never from a
    store or a request.

    For all runs of the workflow, unless a start says otherwise:

    - `queue`: the queue they go into, one of the runtime's `queues`. Without it they are in the workflow's own, which
      the limits `concurrency`, `concurrency_per_key`, `rate_limit`, `rate_limit_per_key` and `holds` are for: see
      `Queue`.
    - `key(input)`: what limits per key go by.
    - `priority`: higher ones are driven first, among the runs of a queue that has limits.
    - `timeout` (seconds or a timedelta): how long a run may take from when it is first due, waits included. Then it is
      asked to cancel.

    `schedules` start runs of it again and again: see `Schedule`.
    """

    target: Workflow[Any, Any] | str
    id: str | None = None
    schedules: Sequence[Schedule] = ()
    queue: str | None = None
    key: Callable[[Any], str | None] | None = None
    priority: int = 0
    timeout: Duration | None = None
    concurrency: int | None = None
    concurrency_per_key: int | None = None
    rate_limit: RateLimit | None = None
    rate_limit_per_key: RateLimit | None = None
    holds: Holds = "running"

    def __post_init__(self) -> None:
        if isinstance(self.target, str):
            module, _, name = self.target.partition(":")
            if not module or not name:
                raise DefinitionError(f"Registration({self.target!r}): write the path as 'package.module:name'.")
            if self.id is None:
                raise DefinitionError(
                    f"Registration({self.target!r}) needs id=, so that it need not be imported to be known."
                )
        elif not isinstance(self.target, Workflow):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"Registration takes a workflow or its import path, not {self.target!r}.")
        identifier(self.workflow_id, "workflow id")
        limited = self.own_queue.limited  # to make it checks the limits
        if self.queue is not None and limited:
            raise DefinitionError(
                f"The registration of {self.workflow_id!r} names the queue {self.queue!r} and limits of its own: give "
                "the limits to that queue."
            )
        if self.timeout is not None and not span(self.timeout, f"The timeout of {self.workflow_id!r}"):
            raise DefinitionError(f"The timeout of {self.workflow_id!r} must be longer than nothing.")
        checked_priority(self.priority, f"The priority of {self.workflow_id!r}")
        if self.key is not None and not callable(self.key):
            raise DefinitionError(
                f"key of {self.workflow_id!r} is a function of the input, such as lambda input: input['tenant'], not "
                f"{self.key!r}."
            )
        object.__setattr__(self, "schedules", checked_schedules(self.workflow_id, self.schedules))

    @property
    def own_queue(self) -> Queue:
        """The workflow's own queue, with the limits given here."""
        return Queue(
            self.workflow_id,
            self.concurrency,
            self.concurrency_per_key,
            self.rate_limit,
            self.rate_limit_per_key,
            self.holds,
        )

    @property
    def workflow_id(self) -> str:
        if self.id is not None:
            return self.id
        assert isinstance(self.target, Workflow)
        return self.target.id


class Registry:
    """The workflows of a runtime, by id, and its queues."""

    def __init__(self, workflows: Iterable[Workflow[Any, Any] | Registration], queues: Iterable[Queue] = ()) -> None:
        if not isinstance(workflows, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise DefinitionError(f"workflows is a list of workflows and registrations, not {workflows!r}.")
        self._registrations: dict[str, Registration] = {}
        self._loaded: dict[str, Workflow[Any, Any]] = {}
        for item in workflows:
            self._add(item)
        own = [item.own_queue for item in self._registrations.values()]
        self.queues: Mapping[str, Queue] = checked_queues([*queues, *(queue for queue in own if queue.limited)])
        """The queues with limits, and those that runs may name, by name."""
        self._check_queues()

    def _check_queues(self) -> None:
        for id, registration in self._registrations.items():
            if registration.queue not in (None, id) and registration.queue not in self.queues:
                raise DefinitionError(
                    f"Workflow {id!r} is registered for the queue {registration.queue!r}, which is not among queues=."
                )
            if registration.queue is not None and registration.queue != id and registration.queue in self.ids:
                raise DefinitionError(
                    f"Workflow {id!r} is registered for the queue {registration.queue!r}, which is the own one of the "
                    "workflow of that name: for runs of both, name a queue otherwise."
                )

    def _add(self, item: Workflow[Any, Any] | Registration) -> None:
        registration = item if isinstance(item, Registration) else Registration(item)
        id = registration.workflow_id
        if id in self._registrations:
            raise DefinitionError(
                f"Workflow {id!r} is registered twice. Register its newest version only, with the others as "
                "previous_versions."
            )
        self._registrations[id] = registration
        if isinstance(registration.target, Workflow):
            self._loaded[id] = _checked(registration.target, id)

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(self._registrations)

    def registration(self, workflow_id: str) -> Registration:
        """How a registered workflow is registered."""
        return self._registrations[workflow_id]

    def timeout(self, workflow_id: str) -> timedelta | None:
        """The time limit that runs of a workflow are given; None where there is none, or no such workflow here."""
        registration = self._registrations.get(workflow_id)
        return span(registration.timeout, "timeout") if registration and registration.timeout is not None else None

    @property
    def registrations(self) -> Sequence[Registration]:
        return tuple(self._registrations.values())

    def find(self, workflow_id: str) -> Workflow[Any, Any] | None:
        """The definition, imported now if need be; None for an id that is not registered.

        Raises `DefinitionError` when its path can't be imported or names something else.
        """
        loaded = self._loaded.get(workflow_id)
        if loaded is None and workflow_id in self._registrations:
            loaded = _import(self._registrations[workflow_id])
            self._loaded[workflow_id] = loaded
        return loaded

    def get(self, workflow: Workflow[Any, Any] | str) -> Workflow[Any, Any]:
        """The definition that a user names. Raises `InvalidArgumentError` if it is not registered here."""
        if isinstance(workflow, Workflow):
            known = self.find(workflow.id)
            if known is workflow:
                return workflow
            reason = "another definition of this id is" if known is not None else "it is not"
            raise InvalidArgumentError(f"{workflow!r} can't be started here: {reason} registered with this runtime.")
        known = self.find(identifier(workflow, "workflow"))
        if known is None:
            ids = ", ".join(sorted(self._registrations)) or "none"
            raise InvalidArgumentError(f"Workflow {workflow!r} is not registered with this runtime. Registered: {ids}.")
        return known


def _import(registration: Registration) -> Workflow[Any, Any]:
    path = registration.target
    assert isinstance(path, str)
    module, _, name = path.partition(":")
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # whatever that module does wrong is no fault of the runs that wait for it
        raise DefinitionError(
            f"Workflow {registration.workflow_id!r} can't be imported from {path!r}: {type(error).__name__}: {error}"
        ) from error
    if not isinstance(found, Workflow):
        raise DefinitionError(f"{path!r} is not a workflow, but {found!r}. Decorate the handler with create_workflow.")
    return _checked(found, registration.workflow_id)  # pyright: ignore[reportUnknownArgumentType]


def _checked(workflow: Workflow[Any, Any], id: str) -> Workflow[Any, Any]:
    if workflow.id != id:
        raise DefinitionError(
            f"The registration says id {id!r}, and the workflow says {workflow.id!r}: make them the same."
        )
    return workflow

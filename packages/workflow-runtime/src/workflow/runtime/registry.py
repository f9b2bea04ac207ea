"""Which workflows a process has, and where lazily imported ones come from."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from workflow.core import DefinitionError, InvalidArgumentError, Workflow
from workflow.core.arguments import identifier

__all__ = ["Registration", "Registry"]


@dataclass(frozen=True, eq=False)
class Registration:
    """A workflow by its import path ("app.digest:digest"), imported when it is first needed, or by itself.

    `id` must be given with a path, and be the workflow's own. The path comes from the code of the app, never from a
    store or a request.
    """

    target: Workflow[Any, Any] | str
    id: str | None = None
    schedules: Sequence[Any] = ()

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

    @property
    def workflow_id(self) -> str:
        if self.id is not None:
            return self.id
        assert isinstance(self.target, Workflow)
        return self.target.id


class Registry:
    """The workflows of a runtime, by id."""

    def __init__(self, workflows: Iterable[Workflow[Any, Any] | Registration]) -> None:
        self._registrations: dict[str, Registration] = {}
        self._loaded: dict[str, Workflow[Any, Any]] = {}
        for item in workflows:
            self._add(item)

    def _add(self, item: Workflow[Any, Any] | Registration) -> None:
        registration = item if isinstance(item, Registration) else Registration(item)
        id = identifier(registration.workflow_id, "workflow id")
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
        known = self.find(workflow)
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

"""`Context`: the handler's only argument."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from datetime import datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Generic, TypeVarTuple, overload
from uuid import UUID

from typing_extensions import TypeVar

from .arguments import Duration
from .errors import DefinitionError, MiddlewareError
from .results import Approval
from .retry import Retry
from .transactions import Isolation
from .types_of import annotations_of

if TYPE_CHECKING:
    from .engine.primitives import Primitives
    from .engine.session import Session

__all__ = ["Context", "RuntimeView"]

_logger = logging.getLogger("workflow.run")

InputT = TypeVar("InputT", default=Any)
StateT = TypeVar("StateT", default=None)
_T = TypeVar("_T")
_Ts = TypeVarTuple("_Ts")


class Context(Generic[InputT, StateT]):
    """What a handler is given: its input, its state, and the durable operations.

    A subclass may declare fields that middleware gives, so that they are typed:

        class OrderContext(Context[Order]):
            db: Pool
    """

    run_id: str
    workflow_id: str
    workflow_version: str | None
    input: InputT
    state: StateT

    def __init__(self, session: Session, primitives: Primitives, input: InputT, state: StateT) -> None:
        self._session = session
        self._primitives = primitives
        self._logger: _ReplaySilentLogger | None = None
        self.run_id = session.run.run_id
        self.workflow_id = session.run.workflow_id
        self.workflow_version = session.run.workflow_version
        self.input = input
        self.state = state

    @property
    def runtime(self) -> RuntimeView:
        """The budget of this drive, and how to end it early."""
        return RuntimeView(self._session, self._primitives)

    @property
    def logger(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logs with the ids of the run, and is silent during replay."""
        if self._logger is None:  # few handlers log
            self._logger = _ReplaySilentLogger(self._session)
        return self._logger

    @overload
    async def step(
        self,
        id: str,
        fn: Callable[[*_Ts], Coroutine[Any, Any, _T]],
        *args: *_Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    @overload
    async def step(
        self,
        id: str,
        fn: Callable[[*_Ts], Awaitable[_T]],
        *args: *_Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    @overload
    async def step(
        self,
        id: str,
        fn: Callable[[*_Ts], _T],
        *args: *_Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    def step(
        self,
        id: str,
        fn: Callable[..., Any],
        *args: Any,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Any:
        """Run `fn(*args)` as a side effect, and record its result. Once recorded it is never run again.

        `id` is unique within the run. `fn` is an `async def`, or a `def`, which runs in a worker thread with the
        context variables of this call; keyword arguments go through `functools.partial`. `timeout` (a timedelta, or
        seconds) bounds each attempt, and `retry` says whether a failed one is followed by another (else the workflow's
        `default_retry`, else one attempt). `meta` is plain JSON for observers.

        The result is what its JSON gives back through the return annotation of `fn`: the same in value and type, live
        and on replay. Without an annotation only plain JSON is taken.

        Raises `StepError` when it has failed for good: `StepTimeoutError` for a timeout, `StepResultError` for a result
        that can't be recorded, `StepInterruptedError` for an at-most-once step whose process died. Raises
        `InvalidArgumentError` for a bad argument, and for an id that the run has used before.
        """
        # No `async def`: a frame between the handler and the primitive would be entered for each step of each replay.
        return self._primitives.step(id, fn, args, retry, timeout, meta)

    @overload
    async def transaction(
        self,
        id: str,
        fn: Callable[[Any, *_Ts], Coroutine[Any, Any, _T]],
        *args: *_Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    @overload
    async def transaction(
        self,
        id: str,
        fn: Callable[[Any, *_Ts], _T],
        *args: *_Ts,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    async def transaction(
        self,
        id: str,
        fn: Callable[..., Any],
        *args: Any,
        retry: Retry | None = None,
        timeout: Duration | None = None,
        isolation: Isolation | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Any:
        """Run `fn(connection, *args)` in a transaction of the store's database, and record its result in that same one.

        So what `fn` writes with `connection`, and nothing else, happens exactly once: its writes and the record of its
        end are both there, or neither is, whatever dies in between. `fn` must not commit or roll back by itself. It may
        run several times, each in a new transaction after the last was undone (a crash, a retry, a conflict with
        others): let it do nothing but work on the database, and be quick.

        What `connection` is, and whether `fn` is a `def` or an `async def`, depends on the store: `PostgresStore` gives
        an SQLAlchemy `AsyncConnection` to an `async def`, `SQLiteStore` an `sqlite3.Connection` to a `def`, in its
        writing thread. `isolation` is the level of the transaction; None is the database's default. `id`, `retry`,
        `timeout`, `meta`, the result and the errors are those of `step`, and to the log it is a step.

        Transactions of one run take turns. Raises `HandlerError` if the store has no such transactions.
        """
        return await self._primitives.transaction(id, fn, args, retry, timeout, isolation, meta)

    async def sleep(self, delay: Duration, *, id: str | None = None, meta: dict[str, Any] | None = None) -> None:
        """Go on after `delay` (a timedelta, or seconds). No process has to wait.

        Raises `InvalidArgumentError` for a negative or infinite delay.
        """
        await self._primitives.sleep(delay, id, meta)

    async def sleep_until(self, when: datetime, *, id: str | None = None, meta: dict[str, Any] | None = None) -> None:
        """Go on at `when`, an aware datetime; at once if it is past. Raises `InvalidArgumentError` for a naive one."""
        await self._primitives.sleep_until(when, id, meta)

    @overload
    async def wait_for_event(
        self,
        name: str,
        type: type[_T],
        *,
        id: str | None = None,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        meta: dict[str, Any] | None = None,
    ) -> _T: ...
    @overload
    async def wait_for_event(
        self,
        name: str,
        type: Any = Any,
        *,
        id: str | None = None,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Any: ...
    async def wait_for_event(
        self,
        name: str,
        type: Any = Any,
        *,
        id: str | None = None,
        timeout: Duration | None = None,
        deadline: datetime | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Any:
        """Wait for a signal of this name, and return its payload, validated as `type`.

        A signal that came before it was asked for counts. Raises `EventTimeoutError` after `timeout` or at `deadline`
        (the earlier of the two), and `PayloadError` for a payload that does not fit; the signal is used up then.
        """
        return await self._primitives.wait_for_event(name, type, id, timeout, deadline, meta)

    async def approve(
        self,
        title: str,
        *,
        id: str | None = None,
        description: str | None = None,
        timeout: Duration | None = None,
        meta: dict[str, Any] | None = None,
    ) -> Approval:
        """Wait for a person's decision. `id` is the approval id that `deliver_approval` names.

        Raises `EventTimeoutError` after `timeout`.
        """
        return await self._primitives.approve(title, id, description, timeout, meta)

    async def now(self, *, id: str | None = None) -> datetime:
        """The current time, aware, in UTC: recorded, so that a replay sees the same."""
        return await self._primitives.now(id)

    async def uuid(self, *, id: str | None = None) -> UUID:
        """A random UUID: recorded, so that a replay sees the same."""
        return await self._primitives.uuid(id)

    def emit(self, name: str, value: Any = None) -> None:
        """Publish a live event (`CUSTOM`) to observers, with a plain JSON value. Not logged; silent during replay.

        Raises `PayloadError` for a value that is not plain JSON.
        """
        self._primitives.emit(name, value)

    @classmethod
    def declared_fields(cls) -> frozenset[str]:
        """The fields that subclasses (and their mixins) declare for middleware to give.

        Raises `DefinitionError` for a name that every context has already.
        """
        return _declared_fields(cls)

    def _give(self, middleware: str, values: dict[str, Any]) -> None:
        """Take what a middleware gives."""
        for name, value in values.items():
            if name in BUILT_IN or name.startswith("_"):
                whose = "is reserved" if name.startswith("_") else "every Context has already"
                raise MiddlewareError(f"Middleware {middleware} gives {name!r}, which {whose}: choose another name.")
            try:
                setattr(self, name, value)
            except AttributeError as error:
                raise MiddlewareError(
                    f"Middleware {middleware} gives {name!r}, which {type(self).__qualname__} can't take ({error}): "
                    f"declare it as a plain field, `{name}: ...`."
                ) from error

    def _check_given(self) -> None:
        """Raise `MiddlewareError` unless everything that the class declares is there."""
        if not (declared := self.declared_fields()):
            return
        missing = sorted(name for name in declared if not hasattr(self, name))
        if missing:
            raise MiddlewareError(
                f"{type(self).__qualname__} declares {', '.join(missing)}, and no middleware of workflow "
                f"{self.workflow_id!r} gave it: add a middleware that calls `call_next({missing[0]}=...)`."
            )


BUILT_IN: frozenset[str] = frozenset(
    name for name in (*vars(Context), *annotations_of(Context)) if not name.startswith("_")
)
_OWN_BASES = frozenset(Context.__mro__)


@lru_cache(maxsize=1024)
def _declared_fields(cls: type[Context[Any, Any]]) -> frozenset[str]:
    fields: set[str] = set()
    for base in cls.__mro__:
        if base in _OWN_BASES:
            continue
        own = {name for name in annotations_of(base) if not name.startswith("_")}
        if shadowed := sorted(BUILT_IN & (own | vars(base).keys())):
            raise DefinitionError(
                f"{base.__qualname__} declares {', '.join(shadowed)}, which every Context has already: "
                "choose another name."
            )
        fields |= own
    return frozenset(fields)


class RuntimeView:
    """`ctx.runtime`: the budget of this drive.

    What it says differs from drive to drive, so decide about yielding by it and about nothing else.
    """

    def __init__(self, session: Session, primitives: Primitives) -> None:
        self._session = session
        self._primitives = primitives

    @property
    def deadline(self) -> datetime | None:
        """When the host wants to be done; None without a budget."""
        return self._session.environment.deadline

    def time_remaining(self) -> timedelta | None:
        """How much is left until the deadline, at least zero; None without a budget."""
        return self._primitives.time_remaining()

    def should_yield(self, min_remaining: Duration | None = None) -> bool:
        """Whether less than `min_remaining` is left (default: the host's margin). Never during replay."""
        return self._primitives.should_yield(min_remaining)

    async def yield_now(self, reason: str | None = None) -> None:
        """End this drive here; the run is ready to go on at once, in another one.

        Steps under way end first. A drive that has not got anywhere yet does not yield: a run can't stand still.
        """
        if reason:
            self._session.yield_reason = reason
        await self._primitives.yield_now()


class _ReplaySilentLogger(logging.LoggerAdapter[logging.Logger]):
    """`ctx.logger`: the logger `workflow.run`, with `run_id` and `workflow_id` as extras; silent during replay."""

    def __init__(self, session: Session) -> None:
        super().__init__(
            _logger,
            {"run_id": session.run.run_id, "workflow_id": session.run.workflow_id},
        )
        self._session = session

    def isEnabledFor(self, level: int) -> bool:  # noqa: N802 - the name is logging's
        return not (self._session.replaying or self._session.closing) and super().isEnabledFor(level)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

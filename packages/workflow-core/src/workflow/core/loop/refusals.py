"""What the deterministic loop refuses, and what to write instead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from workflow.core.errors import HandlerError

__all__ = ["refuse", "refusing"]

_Loop = TypeVar("_Loop", bound=type)

_IO = "real I/O is not durable. Put it in a function and run it with `await ctx.step(id, function, ...)`"
_THREADS = (
    "threads don't run in a handler. Give the function itself to `await ctx.step(id, function, ...)`: "
    "a `def` runs in a thread there"
)
_LOOP = "the handler's loop belongs to the engine"

_REASONS: dict[str, str] = {
    **dict.fromkeys(("run_in_executor", "set_default_executor", "call_soon_threadsafe"), _THREADS),
    **dict.fromkeys(
        (
            "run_forever",
            "run_until_complete",
            "stop",
            "close",
            "shutdown_asyncgens",
            "shutdown_default_executor",
            "set_task_factory",
            "set_exception_handler",
            "set_debug",
        ),
        _LOOP,
    ),
    **dict.fromkeys(
        (
            "getaddrinfo",
            "getnameinfo",
            "create_connection",
            "create_server",
            "create_unix_connection",
            "create_unix_server",
            "create_datagram_endpoint",
            "connect_accepted_socket",
            "start_tls",
            "sendfile",
            "connect_read_pipe",
            "connect_write_pipe",
            "subprocess_shell",
            "subprocess_exec",
            "add_reader",
            "remove_reader",
            "add_writer",
            "remove_writer",
            "sock_recv",
            "sock_recv_into",
            "sock_recvfrom",
            "sock_recvfrom_into",
            "sock_sendall",
            "sock_sendto",
            "sock_connect",
            "sock_accept",
            "sock_sendfile",
            "add_signal_handler",
            "remove_signal_handler",
        ),
        _IO,
    ),
}


def refuse(name: str) -> NoReturn:
    raise HandlerError(f"The handler used loop.{name}(), and {_REASONS[name]}.")


def _refusal(name: str) -> Callable[..., NoReturn]:
    def method(self: object, *args: Any, **kwargs: Any) -> NoReturn:
        refuse(name)

    method.__name__ = name
    return method


def refusing(cls: _Loop) -> _Loop:
    """Give a loop class every refused method, so that each says what to do rather than `NotImplementedError`."""
    for name in _REASONS:
        if name not in cls.__dict__:
            setattr(cls, name, _refusal(name))
    return cls

"""What every command shares: the app, how it answers, and what its exit code says."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

import click
from pydantic import BaseModel
from rich.console import Console
from rich.markup import escape

from workflow.core import (
    DefinitionError,
    InvalidArgumentError,
    PayloadError,
    RunNotFoundError,
    StoreError,
    WorkflowError,
)
from workflow.runtime.answers import to_bytes
from workflow.runtime.hosting import RuntimeSource, import_runtime
from workflow.runtime.runtime import WorkflowRuntime

from .places import place_of

__all__ = ["BAD_STORE", "BAD_USE", "NO", "OK", "Session", "command_options", "wants"]

OK = 0
NO = 1
"""It was done, and the answer is no: no such run, the run has failed, something is stuck."""
BAD_USE = 2
"""It was not even tried: a wrong option, input or app."""
BAD_STORE = 3
"""The store can't be reached, or its schema is not right."""

_APP = "WORKFLOW_APP"
"""The environment variable that names the app where `--app` doesn't."""

_WIDE = 200
"""Columns where the output is no terminal: nobody wants cut off ids in a file."""

F = TypeVar("F", bound=Callable[..., Any])


def _console(*, stderr: bool) -> Console:
    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() or "COLUMNS" in os.environ else _WIDE
    return Console(stderr=stderr, highlight=False, width=width, soft_wrap=False)


@dataclass
class Session:
    """One call of the command."""

    app: str | None = None
    as_json: bool = False
    debug: bool = False
    out: Console = field(default_factory=lambda: _console(stderr=False))
    err: Console = field(default_factory=lambda: _console(stderr=True))

    # Answering

    def answer(self, document: BaseModel | dict[str, Any], draw: Callable[[Console], object]) -> None:
        """Write the document as one line of JSON, or draw it for people."""
        if self.as_json:
            self.write_json(document)
        else:
            self.draw(draw)

    def draw(self, draw: Callable[[Console], object]) -> None:
        """Draw for people; without the blanks that fill lines up, where no terminal shows them."""
        if self.out.is_terminal:
            draw(self.out)
            return
        with self.out.capture() as drawn:
            draw(self.out)
        click.echo("\n".join(line.rstrip() for line in drawn.get().splitlines()))

    def write_json(self, document: BaseModel | dict[str, Any]) -> None:
        text = to_bytes(document).decode() if isinstance(document, BaseModel) else json.dumps(document, default=str)
        click.echo(text)

    def complain(self, code: int, message: str, kind: str = "error") -> int:
        """Say what went wrong, and answer the exit code."""
        if self.as_json:
            self.write_json({"error": {"code": kind, "message": message}})
        else:
            self.err.print(f"[bold red]Error:[/] {escape(message)}", soft_wrap=True)
        return code

    # Working

    def run(self, work: Callable[[WorkflowRuntime], Awaitable[int]]) -> int:
        """Make the app's runtime, do the work with it, close it, and answer the exit code."""
        app = self.app or os.environ.get(_APP)
        if not app:
            message = (
                "Which app? Give --app MODULE:NAME, where NAME is a WorkflowRuntime or a function that makes one "
                f"(or set {_APP})."
            )
            return self.complain(BAD_USE, message, "app")
        logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
        if self.debug:
            logging.getLogger("workflow").setLevel(logging.DEBUG)
        try:
            return asyncio.run(self._run(app, work))
        except KeyboardInterrupt:
            return self.complain(130, "Interrupted.", "interrupted")
        except (StoreError, OSError) as error:
            return self.complain(BAD_STORE, str(error), getattr(error, "code", "store"))
        except RunNotFoundError as error:
            return self.complain(NO, str(error), error.code)
        except (InvalidArgumentError, PayloadError, DefinitionError) as error:
            return self.complain(BAD_USE, str(error), error.code)
        except WorkflowError as error:
            return self.complain(NO, str(error), error.code)

    async def _run(self, app: str, work: Callable[[WorkflowRuntime], Awaitable[int]]) -> int:
        runtime = await _make_runtime(app)
        try:
            return await work(runtime)
        finally:
            await runtime.close()


async def _make_runtime(app: str) -> WorkflowRuntime:
    # As `python -m` does: the app lies where the command is called.
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    try:
        return await RuntimeSource(import_runtime(app)).get()
    except WorkflowError as error:
        if isinstance(error.__cause__, ImportError):
            raise DefinitionError(_not_imported(app, error.__cause__)) from error
        raise
    except Exception as error:
        raise DefinitionError(f"The app {app!r} can't be loaded: {_where(error)}") from error


def _not_imported(app: str, error: ImportError) -> str:
    """Whether the app itself is not where it was looked for, or something that it imports."""
    module = app.partition(":")[0]
    if error.name is not None and f"{module}.".startswith(f"{error.name}."):
        searched = f"It was looked for in {os.getcwd()} and in this environment."
        return f"The app {app!r} can't be loaded: {error}. {searched}"
    return f"The app {app!r} can't be loaded: {_where(error)}"


def _where(error: Exception) -> str:
    """The error in one line, with the place in the app's code."""
    text, place = f"{type(error).__name__}: {error}", place_of(error)
    return f"{text} ({place})" if place is not None else text


# Options that every command takes, before or after its name


def command_options(command: F) -> F:
    """`--app` and `--json`, on the group and on each command: people write them where they think of them."""
    options = [
        click.option(
            "--app",
            metavar="MODULE:NAME",
            help="Your WorkflowRuntime, or a function that makes it. [env: WORKFLOW_APP]",
        ),
        click.option("--json", "as_json", is_flag=True, help="Answer with JSON."),
    ]
    for option in options:
        command = option(command)
    return command


def wants(app: str | None, as_json: bool) -> Session:
    """The session of this call, with what the command itself was given on top of what the group was."""
    session = click.get_current_context().find_object(Session)
    assert session is not None
    session.app = app or session.app
    session.as_json = as_json or session.as_json
    return session

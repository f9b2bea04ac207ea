"""The command line: `workflow`, or `python -m workflow.runtime`. Its libraries come with `workflow-runtime[cli]`."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command and exit with its code."""
    try:
        import click as click
        import rich as rich
    except ImportError as error:
        print(f'The command line needs {error.name}: pip install "workflow-runtime[cli]"', file=sys.stderr)  # noqa: T201
        sys.exit(2)
    from .cli.main import run

    sys.exit(run())


if __name__ == "__main__":
    main()

"""Where in the app's own code something went wrong."""

from __future__ import annotations

import os
import sys
import traceback

__all__ = ["place_of"]


def place_of(error: BaseException | None) -> str | None:
    """The line of the app that raised an error, or that called what raised it; of its first cause that has one.

    The app's are the files in the folder where the command is called, without an environment that lies within it.
    """
    place: str | None = None
    seen = set[int]()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_apps(frame.filename)]
        if frames:
            place = f"{os.path.relpath(frames[-1].filename)}, line {frames[-1].lineno}"
        error = error.__cause__
    return place


def _is_apps(filename: str) -> bool:
    path, here = os.path.abspath(filename), os.path.join(os.getcwd(), "")
    environment = os.path.join(sys.prefix, "")
    return path.startswith(here) and not path.startswith(environment) and not filename.startswith("<")

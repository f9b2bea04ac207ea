"""The replay engine: one `Drive` is one bounded piece of work on one run."""

from .drive import Drive
from .environment import DriveEnvironment
from .outcome import DriveOutcome

__all__ = ["Drive", "DriveEnvironment", "DriveOutcome"]

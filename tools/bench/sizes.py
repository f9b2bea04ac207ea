"""How much is measured."""

from __future__ import annotations

from dataclasses import asdict, dataclass

__all__ = ["FULL", "QUICK", "Sizes"]


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int = 3
    """How often each system is measured, in turn; the medians count."""
    single: int = 60
    """Runs one at a time, of each length."""
    lengths: tuple[int, ...] = (1, 5, 20)
    at_once: tuple[int, ...] = (100, 1000)
    counted: int = 100
    """Runs whose statements are counted, one at a time."""
    counted_at_once: int = 400
    sleepers: int = 1000
    histories: tuple[int, ...] = (100, 1000, 5000)
    resumes: int = 5
    patience: float = 6.0
    """No further repetition of what has taken so many seconds already."""
    processes: tuple[int, ...] = (1, 2, 4)
    enqueued: int = 4000
    ended: int = 1_000_000
    asleep: int = 100_000
    looks: int = 40
    """How often each operation on the full store is repeated."""

    def as_json(self) -> dict[str, object]:
        return asdict(self)


FULL = Sizes()
QUICK = Sizes(
    rounds=1,
    single=10,
    at_once=(20, 60),
    counted=10,
    counted_at_once=30,
    sleepers=60,
    histories=(20, 100),
    resumes=2,
    patience=2.0,
    processes=(1, 2),
    enqueued=200,
    ended=5_000,
    asleep=1_000,
    looks=5,
)

"""Starts workers as forks of itself, so that a new one costs no imports: `python scale_foreman.py STORE JOURNAL`.

Nothing is opened before a fork. Commands come by standard input, answers go to standard output, a line each:

    start       the new worker's process id
    wait PID    its exit code, when it has ended

It ends with its input, and takes the workers along.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import traceback
from pathlib import Path

from scale_app import Journal, StoreSpec, serve


def start(spec: StoreSpec, journal: Journal) -> int:
    child = os.fork()
    if child:
        return child
    try:
        asyncio.run(serve(spec, journal))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def main(store: str, journal: str) -> None:
    # Of a worker that is stopped before it has begun to listen: it holds nothing yet.
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    spec, workers = StoreSpec.of(store), set[int]()
    for line in sys.stdin:
        command, *numbers = line.split()
        if command == "start":
            answer = start(spec, Journal(Path(journal)))
            workers.add(answer)
        else:
            pid = int(numbers[0])
            answer = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            workers.discard(pid)
        print(answer, flush=True)
    for pid in workers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


if __name__ == "__main__":
    main(*sys.argv[1:])

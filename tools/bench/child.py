"""One measure of one system, in this process: `python -m bench.child SYSTEM MEASURE TARGET SIZES ANSWER`.

SIZES is JSON; ANSWER is the file that the numbers are written to, because a system may have something to say on stdout.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

from bench.catalog import system
from bench.measures import MEASURES
from bench.sizes import Sizes

__all__ = ["main"]


def main(argv: list[str]) -> None:
    key, measure, target, sizes, answer = argv
    numbers = asyncio.run(MEASURES[measure](system(key, target), Sizes(**json.loads(sizes))))
    Path(answer).write_text(json.dumps(numbers), encoding="utf-8")
    sys.stdout.flush()
    os._exit(0)  # what waits in a system's threads for hours must not keep the process


if __name__ == "__main__":
    main(sys.argv[1:])

"""Memory that is free again goes back to the system."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import re, sys
from pathlib import Path
from warren.memory import give_back

def resident():
    return int(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

SIZE = 4096  # bytes: malloc's own, neither Python's small objects nor a mapping each
blocks = [bytearray(SIZE) for _ in range(20_000)]
kept = blocks.pop()  # the newest is at the end of the heap and keeps what is below it
full = resident()
blocks.clear()
free = resident()
give_back()
print(full, free, resident())
"""


def test_free_memory_below_what_is_in_use_is_given_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], check=True, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=60
    )
    full, free, returned = map(int, re.findall(r"\d+", done.stdout))
    assert full - free < 40_000, "nothing to show: malloc has given it back by itself"
    assert free - returned > 40_000

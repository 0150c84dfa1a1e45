"""compare_states DIRECTORY: compare the files `before` and `after` that scripts/test-upgrade has written, and its `ping`. Ends with an error when a flow
has gone, come or been installed again, when a row, group or interface differs, or when a ping was lost."""

from __future__ import annotations

import re
import sys
from pathlib import Path

TOLERANCE_S = 3.0  # of the time at which a flow was installed; restarts take longer
LEAST = 100  # flows that a laboratory has at least


def read(path: Path) -> tuple[dict[tuple[str, str, str], float], set[str]]:
    """When each flow was installed, by host, cookie and table; and the lines about all else."""
    clocks, installed, others = dict[str, float](), dict[tuple[str, str, str], float](), set[str]()
    for line in path.read_text().splitlines():
        kind, host, *rest = line.split()
        if kind == "clock":
            clocks[host] = float(rest[0])
        elif kind == "flow":
            installed[host, rest[0], rest[1]] = clocks[host] - float(rest[2])
        else:
            others.add(line)
    return installed, others


work = Path(sys.argv[1])
(before, rows_before), (after, rows_after) = read(work / "before"), read(work / "after")
gone, new = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
again = sorted(flow for flow in before.keys() & after.keys() if after[flow] > before[flow] + TOLERANCE_S)
changed = sorted(rows_before ^ rows_after)
ping = (work / "ping").read_text()
print(
    f"{len(before)} flows: {len(gone)} gone, {len(new)} new, {len(again)} installed again; {len(changed)} rows, groups or interfaces differ"
)
print(ping.strip().splitlines()[-2])
for what in (*gone[:10], *new[:10], *again[:10], *changed[:10]):
    print("  ", what)
if len(before) < LEAST:
    sys.exit("too few flows were seen")
counts = re.search(r"(\d+) packets transmitted, (\d+) received", ping)
lost = int(counts[1]) - int(counts[2]) if counts else None
sys.exit(bool(gone or new or again or changed) or lost not in (0, 1))  # the last one may have been on its way

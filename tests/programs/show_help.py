"""show_help: for each line of the input, the words of a `warren` command: show its help."""

from __future__ import annotations

import shlex
import sys

from tools.cli.main import main

for line in sys.stdin:
    try:
        main([*shlex.split(line), "--help"])
    except SystemExit as end:
        if end.code:
            sys.exit(f"{line}ended with {end.code}")

"""How many examples a property test draws: all of them in `make test`, a few in `make unit`."""

from __future__ import annotations

import os

PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or "full"
SHARE = 25  # `make unit` draws one of so many


def examples(full: int) -> int:
    """The number of examples for this run, where the whole test takes `full`."""
    return max(10, full // SHARE) if PROFILE == "quick" else full

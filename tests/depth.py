"""The Hypothesis profile of a test run, and how many examples each property draws in it. HYPOTHESIS_PROFILE chooses:

    full      every property at its full depth (`make test`, and pytest alone)
    quick     a twenty-fifth of the examples (`make unit`)
    mutants   full depth; one failure is enough and is not shrunk (tests/unit/test_mutants.py)
    explore   ten times the examples, drawn anew in each run: a search for new counterexamples

All but `explore` are derandomized: the same code draws the same examples on every machine, so a red run is about the change. What `explore`
finds becomes an `@example`. No profile has a deadline or a health check on pace or size: both fail a test because a machine is busy."""

from __future__ import annotations

import os
from fractions import Fraction

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

PROFILES = {"full": Fraction(1), "quick": Fraction(1, 25), "mutants": Fraction(1), "explore": Fraction(10)}
PROFILE = os.environ.get("HYPOTHESIS_PROFILE") or "full"
assert PROFILE in PROFILES, f"HYPOTHESIS_PROFILE is {PROFILE!r}; the profiles are {', '.join(PROFILES)}"
PACE = (HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example)

# Characters of each kind that programs stumble over. st.text() draws from all of Unicode and takes a second to load its tables.
LETTERS = "abz019 .:-_/\\'\"{}[],#%\t\r\n\0\x7f\u00e9\u00df\u0301\u200b\ufeff\u2028\u6f22\U0001f989"
texts = st.text(LETTERS)
short_texts = st.text(LETTERS, max_size=8)


def examples(full: int) -> int:
    """The number of examples for this run, where the whole test takes `full`."""
    return max(10, int(full * PROFILES[PROFILE]))


def load() -> None:
    """Make the profile of this run the one that every property test starts from."""
    settings.register_profile(
        PROFILE,
        max_examples=examples(100),
        deadline=None,
        derandomize=PROFILE != "explore",
        suppress_health_check=PACE,
        phases=(Phase.explicit, Phase.generate) if PROFILE == "mutants" else tuple(Phase),
        print_blob=True,
    )
    settings.load_profile(PROFILE)

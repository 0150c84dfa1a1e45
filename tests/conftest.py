"""Options for all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import Phase, settings

# CI runs the same cases every time, so that a failure there is about the change; everywhere else they are drawn anew
settings.register_profile("ci", derandomize=True)
settings.register_profile("mutants", derandomize=True, phases=(Phase.explicit, Phase.generate))  # a failure is enough
if profile := os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else ""):
    settings.load_profile(profile)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))

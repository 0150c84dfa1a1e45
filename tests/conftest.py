"""Options and the one Hypothesis profile of all tests."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from tests.depth import PROFILE

# No deadline and no health checks: both fail a test because the machine is busy, which says nothing of the code. CI draws the same cases
# every time, so that a failure there is about the change; everywhere else they are drawn anew.
_common = settings(
    deadline=None, suppress_health_check=list(HealthCheck), derandomize=bool(os.environ.get("CI")), print_blob=True
)
settings.register_profile("full", _common)
settings.register_profile("quick", _common, max_examples=20)  # `make unit`
settings.register_profile("mutants", _common, derandomize=True, phases=(Phase.explicit, Phase.generate))  # one failure is enough
settings.load_profile(PROFILE)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))

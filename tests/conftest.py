"""Options and the one Hypothesis profile of all tests."""

from __future__ import annotations

import signal

import pytest

from tests import depth

depth.load()  # before any test module is read
signal.signal(
    signal.SIGINT, signal.default_int_handler
)  # a shell that starts a job in the background has it ignored, for children, too


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--update-golden"))

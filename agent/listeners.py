"""Listeners: functions that want to hear of something, added by those who listen, called by whoever tells."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

Arguments = ParamSpec("Arguments")


class Listeners(Generic[Arguments]):
    """Calls every function that was added, in order."""

    def __init__(self) -> None:
        self._functions: list[Callable[Arguments, object]] = []

    def add(self, function: Callable[Arguments, object]) -> None:
        """From now on this function is called, too."""
        self._functions.append(function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        """Tell all of them."""
        for function in self._functions:
            function(*args, **kwargs)

"""Listeners: callbacks for an event. Subscribers add functions; the source of the event calls all of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, ParamSpec

Arguments = ParamSpec("Arguments")


class Listeners(Generic[Arguments]):
    """Functions that are called, in the order in which they were added, when an event occurs."""

    def __init__(self) -> None:
        self._functions: list[Callable[Arguments, object]] = []

    def add(self, function: Callable[Arguments, object]) -> None:
        """Call this function at every event from now on."""
        self._functions.append(function)

    def __call__(self, *args: Arguments.args, **kwargs: Arguments.kwargs) -> None:
        """Call all functions with these arguments."""
        for function in self._functions:
            function(*args, **kwargs)

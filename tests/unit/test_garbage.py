"""The garbage collector's pause while much is made."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from controller.garbage import MANY, paused


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    yield
    gc.unfreeze()
    gc.enable()


def test_nothing_is_collected_in_a_pause_and_all_goes_on_after_it() -> None:
    with paused():
        assert not gc.isenabled()
    assert gc.isenabled()
    with pytest.raises(KeyError), paused():
        raise KeyError
    assert gc.isenabled()


def test_what_is_made_in_large_numbers_is_kept_from_later_collections_and_a_little_is_not() -> None:
    gc.collect()
    frozen = gc.get_freeze_count()
    with paused():
        few = [[number] for number in range(MANY // 100)]
    assert gc.get_freeze_count() == frozen
    with paused():
        many = [[number] for number in range(MANY * 2)]
    assert gc.get_freeze_count() >= len(many) > len(few)

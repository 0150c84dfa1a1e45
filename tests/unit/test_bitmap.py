"""The pool bitmap against an independent oracle: a set of numbers."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from specs.store import bitmap
from tests.depth import texts

B = bitmap.BLOCK_BITS
EDGES = [0, 1, B - 1, B, B + 1, 2 * B - 1, 2 * B, 3 * B]
numbers = st.one_of(st.integers(0, 3 * B), st.sampled_from(EDGES))


def blocks_of(taken: set[int]) -> dict[int, int]:
    blocks: dict[int, int] = {}
    for number in taken:
        blocks[number // B] = blocks.get(number // B, 0) + (1 << number % B)
    return blocks


def runs(draw: st.DrawFn) -> set[int]:
    """Taken numbers as a few long runs: only so do whole blocks fill up."""
    numbers_taken: set[int] = set()
    for start, length in draw(st.lists(st.tuples(numbers, st.integers(0, 2 * B)), max_size=4)):
        numbers_taken |= set(range(start, start + length))
    return numbers_taken - draw(st.sets(numbers, max_size=3))


taken_sets = st.composite(runs)()


@given(taken_sets, numbers, numbers, st.sets(numbers, max_size=5))
def test_lowest_free_is_the_lowest(taken: set[int], first: int, last: int, reserved: set[int]) -> None:
    expected = next((n for n in range(first, last + 1) if n not in taken and n not in reserved), None)
    assert bitmap.lowest_free(blocks_of(taken), first, last, reserved) == expected


@given(taken_sets, numbers)
def test_mark_and_release(taken: set[int], number: int) -> None:
    blocks = blocks_of(taken)
    assert bitmap.taken(blocks, number) == (number in taken)
    assert dict([bitmap.mark(blocks, number)]).items() <= blocks_of(taken | {number}).items()
    block, bits = bitmap.release(blocks, number)
    assert bits == blocks_of(taken - {number}).get(block, 0)


@given(taken_sets)
def test_a_block_is_stored_and_read_back(taken: set[int]) -> None:
    for bits in blocks_of(taken).values():
        assert bitmap.parse(bitmap.format_block(bits)) == bits


@given(st.one_of(texts, st.integers(-(1 << B + 8), 1 << B + 8).map(lambda n: f"{n:x}")))
def test_a_broken_block_gives_out_nothing_outside_itself(text: str) -> None:
    bits = bitmap.parse(text)
    assert 0 <= bits <= bitmap.FULL
    free = bitmap.lowest_free({0: bits}, 0, B - 1)
    assert free is None or 0 <= free < B


def test_large_pools_cost_what_they_hold() -> None:
    full = dict.fromkeys(range(15), bitmap.FULL)
    assert lowest_free({**full, 15: (1 << 3560) - 1}, 1, 65_534) == (65_000, 16)
    assert lowest_free({}, 1, 2**24 - 2, {1}) == (2, 1)  # a /8
    assert lowest_free({0: bitmap.FULL, 2**51: 1}, 1, 2**64 - 1) == (B, 2)  # an IPv6 /64
    assert lowest_free({}, 2**64 - 3, 2**64 - 1) == (2**64 - 3, 1)


class Counted(dict[int, int]):
    """Blocks that count how many of them are read."""

    reads = 0

    def get(self, block: int, default: int = 0) -> int:  # type: ignore[override]
        self.reads += 1
        return super().get(block, default)


def lowest_free(blocks: dict[int, int], *more: Any) -> tuple[int | None, int]:
    """The lowest free number, and how many blocks were read for it."""
    counted = Counted(blocks)
    return bitmap.lowest_free(counted, *more), counted.reads

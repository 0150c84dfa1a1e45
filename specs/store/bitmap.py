"""Pools of numbers as sparse bitmap blocks. Pure.

A number is an offset in the pool (an address minus the first of its range). A block has 4096 bits, stored as hex text; a
block that is not stored is free. Finding the lowest free number of a /16 with 65 000 taken reads sixteen integers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

BLOCK_BITS = 4096
FULL = (1 << BLOCK_BITS) - 1


def parse(text: str) -> int:
    """Decode a stored block. A text that is not a block counts as full, so that no number is allocated twice."""
    try:
        bits = int(text, 16)
    except ValueError:
        return FULL
    return bits if 0 <= bits <= FULL else FULL


def format_block(bits: int) -> str:
    """Encode a block."""
    return f"{bits:x}"


def place(number: int) -> tuple[int, int]:
    """Return the block of a number and its mask there."""
    return number // BLOCK_BITS, 1 << (number % BLOCK_BITS)


def taken(blocks: Mapping[int, int], number: int) -> bool:
    """Whether a number is allocated."""
    block, mask = place(number)
    return bool(blocks.get(block, 0) & mask)


def lowest_free(blocks: Mapping[int, int], first: int, last: int, reserved: Collection[int] = ()) -> int | None:
    """Return the lowest number in first..last that is neither taken nor reserved, or None.

    Looks at the blocks that exist and at the first one that does not, so a /8 or an IPv6 /64 costs no more.
    """
    kept: dict[int, int] = {}
    for number in reserved:
        block, mask = place(number)
        kept[block] = kept.get(block, 0) | mask
    block = first // BLOCK_BITS
    while block <= last // BLOCK_BITS:
        bits = blocks.get(block, 0) | kept.get(block, 0) | _outside(block, first, last)
        if bits != FULL:
            return block * BLOCK_BITS + ((~bits & (bits + 1)).bit_length() - 1)
        block += 1
    return None


def _outside(block: int, first: int, last: int) -> int:
    start = block * BLOCK_BITS
    below = (1 << max(0, first - start)) - 1
    upto = last - start + 1
    above = FULL ^ ((1 << upto) - 1) if upto < BLOCK_BITS else 0
    return below | above


def mark(blocks: Mapping[int, int], number: int) -> tuple[int, int]:
    """Return the block of a number, and its bits once the number is taken."""
    block, mask = place(number)
    return block, blocks.get(block, 0) | mask


def release(blocks: Mapping[int, int], number: int) -> tuple[int, int]:
    """Return the block of a number, and its bits once the number is free."""
    block, mask = place(number)
    return block, blocks.get(block, 0) & ~mask

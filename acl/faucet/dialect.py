"""The rules of YAML in a faucet.yaml: the types that FAUCET's loader (ruamel.yaml, YAML 1.2) gives it, and limits."""

from __future__ import annotations

import re

from warren.yaml import Dialect

TEXT_LIMIT = 10_000_000  # characters of one file

FAUCET = Dialect(
    text_limit=TEXT_LIMIT,
    values_limit=2_000_000,
    depth_limit=64,
    number_limit=64,
    # 0x800, 0o14, 0b1, 1_000; 0800 is 800
    integer=re.compile(r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)"),
    decimal=re.compile(r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)"),
    references=True,
    keys=(str, int),
    keys_text="each key once, a word or a number",
)

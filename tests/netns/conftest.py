"""The private switch of tests/ovs, whose namespace plays the host here."""

from __future__ import annotations

from tests.ovs.conftest import switch

__all__ = ["switch"]

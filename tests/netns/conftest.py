"""Fixture: the private switch of tests/ovs; its namespace is the host in these tests."""

from __future__ import annotations

from tests.ovs.conftest import switch

__all__ = ["switch"]

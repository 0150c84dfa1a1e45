"""Prints the modules of Warren's rooms that the public client imports."""

import sys

import warren.client

ROOMS = ("warren", "pipeline", "acl", "specs", "mirror", "intent", "ovsdb", "controller", "agent", "tools")
assert warren.client.Client
print("\n".join(sorted(module for module in sys.modules if module.split(".")[0] in ROOMS)))

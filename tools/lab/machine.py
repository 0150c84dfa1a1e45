"""Properties of the machine that laboratories run on."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

PATIENCE = float(
    os.environ.get("WARREN_LAB_PATIENCE") or 1
)  # how many times as long everything may take: an emulated machine is slow


@cache
def kernel_datapath() -> bool:
    """Whether its kernel has Open vSwitch. Hosts then use it, as those outside of laboratories do; `WARREN_LAB_DATAPATH=netdev` keeps them
    in userspace."""
    if os.environ.get("WARREN_LAB_DATAPATH") == "netdev":
        return False
    if shutil.which("modprobe"):
        subprocess.run(["modprobe", "-q", "openvswitch"], check=False)
    return Path("/sys/module/openvswitch").exists()

"""faulty_controller FOLDER: `ryu-manager` with both applications. A loop raises an exception while FOLDER holds a file of its name."""

from __future__ import annotations

import warnings

warnings.simplefilter("ignore")

from controller.framework.runtime import hub  # noqa: E402

hub.patch(thread=False)  # as ryu-manager does, before the applications open sockets

import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from controller.apps import announcer, gauge, overlay  # noqa: E402
from controller.framework.manager import main  # noqa: E402

FOLDER = Path(sys.argv[1])


class Fault(Exception):
    """No exception that Warren expects."""


def break_on_demand(loop: str, owner: Any, name: str) -> None:
    works = getattr(owner, name)

    def faulty(*arguments: Any) -> Any:
        if (FOLDER / loop).exists():
            raise Fault
        return works(*arguments)

    setattr(owner, name, faulty)


break_on_demand("reconciler", overlay.Reconciler, "step")
break_on_demand("feed of the specs", overlay.Overlay, "_feed_news")
break_on_demand("bridge", overlay.IntegrationBridge, "_reconcile")
break_on_demand("audit", overlay, "Audit")
break_on_demand("router advertisements", overlay.Dhcp, "advertise")
break_on_demand("tunnels", overlay.Tunnels, "_tick")
break_on_demand("DHCP", overlay.Dhcp, "answer")
break_on_demand("announcements", announcer, "announcements")
break_on_demand("gauge", gauge.GaugeApp, "_request")
sys.argv[1:] = ["controller.apps.overlay", "controller.apps.gauge"]
main()

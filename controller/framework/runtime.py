"""What applications need of Ryu or os-ken: the base class, events of switches, green threads, the configuration."""

import sys

from controller.framework import RYU

if RYU:
    from ryu import cfg
    from ryu.base.app_manager import RyuApp, lookup_service_brick
    from ryu.controller import ofp_event
    from ryu.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
    from ryu.lib import hub
else:
    from os_ken import cfg
    from os_ken.base.app_manager import OSKenApp as RyuApp
    from os_ken.base.app_manager import lookup_service_brick
    from os_ken.controller import ofp_event
    from os_ken.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
    from os_ken.lib import hub


def is_manager() -> bool:
    """Return whether this process is `ryu-manager`, which loads applications, and not one that imports their modules for other ends."""
    return not sys.modules.keys().isdisjoint(("ryu.cmd.manager", "controller.framework.manager"))


def listen_on_loopback() -> None:
    """Let OpenFlow, and HTTP of other applications, listen on loopback unless an option says otherwise: the frameworks' own default
    is every address, without authentication. To be called before the listeners start."""
    for option in ("ofp_listen_host", "wsapi_host"):
        if option in cfg.CONF:
            cfg.CONF.set_default(option, "127.0.0.1")


__all__ = [
    "CONFIG_DISPATCHER",
    "DEAD_DISPATCHER",
    "MAIN_DISPATCHER",
    "RyuApp",
    "cfg",
    "hub",
    "is_manager",
    "listen_on_loopback",
    "lookup_service_brick",
    "ofp_event",
    "set_ev_cls",
]

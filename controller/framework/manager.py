"""The command `ryu-manager`: Ryu's own where Ryu is installed, else the same options and life around os-ken, which has no such command."""

import logging
import os
from pathlib import Path

from controller.framework import RYU


def main() -> None:
    if RYU:
        from ryu.cmd.manager import main as ryu_manager

        ryu_manager()
    else:
        _os_ken_manager()


def _os_ken_manager() -> None:
    from os_ken.lib import hub

    hub.patch(thread=False)  # before any other module opens a socket; `thread=True` would patch threads alone
    hub.patch(thread=True)
    import os_ken
    from os_ken import cfg, log
    from os_ken.base.app_manager import AppManager
    from os_ken.controller import controller  # noqa: F401  registers the options of the OpenFlow listener

    log.early_init_log(logging.DEBUG)
    cfg.CONF.register_cli_opts(
        [
            cfg.ListOpt("app-lists", default=[], help="modules of applications to run"),
            cfg.MultiStrOpt("app", positional=True, default=[], help="module of an application to run"),
            cfg.StrOpt("pid-file", default=None, help="file for the process id"),
        ]
    )
    cfg.CONF(project="ryu", version=f"ryu-manager (os-ken {os_ken.__version__})", default_config_files=[])
    log.init_log()
    if cfg.CONF.pid_file:
        Path(cfg.CONF.pid_file).write_text(str(os.getpid()))
    manager = AppManager.get_instance()
    manager.load_apps(cfg.CONF.app_lists + cfg.CONF.app or ["os_ken.controller.ofp_handler"])
    services = manager.instantiate_apps(**manager.create_contexts())
    try:
        hub.joinall(services)
    except KeyboardInterrupt:
        logging.getLogger(__name__).debug("interrupted")
    finally:
        manager.close()

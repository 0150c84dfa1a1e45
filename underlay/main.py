"""The process `warren-underlay`: finds its cloud, gives up its privileges, and runs the daemon."""

from __future__ import annotations

import argparse
import json
import logging
import os
import queue
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from underlay import privileges, state
from underlay.config import PATH, Configuration, load
from underlay.daemon import INSPECT_S, Daemon
from underlay.detect import SUPPORTED, cloud
from underlay.fetch import source
from underlay.notify import notify, watchdog_s
from underlay.rest import serve
from warren import __version__
from warren.errors import WarrenError
from warren.settings import LOG_FORMAT

log = logging.getLogger("warren.underlay")

FIRST_S = 10.0  # how long systemd waits for READY=1 while the metadata service does not answer
HUNG_S = 4 * INSPECT_S
HELP = """Configures the network of an instance in EC2, Azure or GCP from the cloud's metadata: secondary addresses, routing tables, rules, MTUs.
Replaces cloud-network: reads its configuration, serves its REST API, writes its state files; `cnctl` prints the metadata.

  warren-underlay
  warren-underlay --provider aws --config /etc/cloud-network/cloud-network.toml
"""


def main(words: Sequence[str] | None = None) -> None:
    """Run the daemon. Exit with status 2 and one line on standard error if it cannot start."""
    options = _options(words)
    try:
        configuration = load(options.config, os.environ)
        _log(configuration)
        provider = options.provider or cloud(options.sysfs)
        owner = privileges.account(options.user) if os.geteuid() == 0 else None
        state.prepare(options.state, owner)
        privileges.drop(options.user)
        daemon = Daemon(source(provider, options.metadata, allow_v1=configuration.allow_v1), configuration, options.state)
        server = serve(configuration.listen, daemon.documents)
    except (WarrenError, OSError) as error:
        print(f"warren-underlay: {error}", file=sys.stderr)
        sys.exit(2)
    log.info("underlay.started provider=%s listen=%s:%d", provider, *configuration.listen)
    signals: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _: signals.put(received))
    daemon.start()
    threading.Thread(target=server.serve_forever, name="rest", daemon=True).start()
    daemon.reconciled.wait(FIRST_S)
    notify(os.environ, "READY=1", f"STATUS={provider}")
    for _ in _hangups(daemon, signals):
        _reload(daemon, options.config, configuration.listen)
    notify(os.environ, "STOPPING=1")
    daemon.stop()
    log.info("underlay.ended")
    logging.shutdown()
    os._exit(0)  # threads may wait for the metadata service


def _options(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("warren-underlay", description=HELP, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument("--config", type=Path, default=PATH, metavar="FILE", help=f"configuration [{PATH}]")
    parser.add_argument("--provider", choices=SUPPORTED, help="the cloud [what the firmware says]")
    parser.add_argument("--metadata", metavar="URL", help="the metadata service [http://169.254.169.254]")
    parser.add_argument("--state", type=Path, default=state.DIRECTORY, metavar="DIR", help=f"state files [{state.DIRECTORY}]")
    parser.add_argument("--user", default=privileges.USER, help=f"user to become when started as root [{privileges.USER}]")
    parser.add_argument(
        "--sysfs", type=Path, default=Path("/sys"), metavar="DIR", help="where to read the firmware's marks [/sys]"
    )
    return parser.parse_args(words)


def _hangups(daemon: Daemon, signals: queue.SimpleQueue[int]) -> Iterator[None]:
    """Yield at each SIGHUP, until another signal ends the daemon. Meanwhile tell systemd that the daemon lives, as long as its loops do."""
    beat_s = watchdog_s(os.environ)
    while True:
        alive = all(worker.alive for worker in daemon.workers) and daemon.idle_s() < HUNG_S
        if beat_s is not None and alive:
            notify(os.environ, "WATCHDOG=1")
        with suppress(queue.Empty):
            if signals.get(timeout=beat_s or 1.0) != signal.SIGHUP:
                return
            yield


def _reload(daemon: Daemon, path: Path, listen: tuple[str, int]) -> None:
    """Read the configuration again; a wrong one changes nothing."""
    notify(os.environ, "RELOADING=1")
    try:
        configuration = load(path, os.environ)
    except WarrenError as error:
        log.warning("underlay.configuration %s; the earlier one stays in force", error)
    else:
        if configuration.listen != listen:
            log.warning("underlay.configuration Network.Listen has changed, which a restart applies")
        _log(configuration)
        daemon.reconfigure(configuration)
        log.info("underlay.reloaded")
    notify(os.environ, "READY=1")


class _Json(logging.Formatter):
    """A line of JSON for each record."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {"level": record.levelname.lower(), "logger": record.name, "msg": record.getMessage()}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _log(configuration: Configuration) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if configuration.format == "json" else logging.Formatter(LOG_FORMAT))
    logging.basicConfig(handlers=[handler], level=configuration.level, force=True)
    for name in ("pyroute2", "httpcore"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for problem in configuration.problems:
        log.warning("underlay.configuration %s", problem)


if __name__ == "__main__":
    main()

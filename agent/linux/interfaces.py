"""The host's interfaces that have addresses."""

from __future__ import annotations

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from warren.errors import Unavailable


def with_addresses() -> list[str]:
    """Return the names of the interfaces that have an address. Raises `Unavailable`."""
    try:
        with IPRoute() as netlink:
            indexes = sorted({address["index"] for address in netlink.get_addr()})
            return [str(netlink.get_links(index)[0].get_attr("IFLA_IFNAME")) for index in indexes]
    except NetlinkError as error:
        raise Unavailable("the list of interfaces", error.args[1] if len(error.args) > 1 else str(error)) from None

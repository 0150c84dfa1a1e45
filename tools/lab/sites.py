"""The networks of a laboratory with sites: an inside network for each, and an "internet" between their outsides. The last site is behind a router
that translates each of its outside addresses to one of the internet and back."""

from __future__ import annotations

from collections.abc import Callable

from specs.model.derived import link_names
from tools.lab.plan import LabPlan

INTERNET = "inet"  # the bridge; WireGuard alone should be seen there
ROUTER = "198.18.3.1"
Shell = Callable[..., object]
Batch = Callable[[str, list[str]], None]


def router_netns(plan: LabPlan) -> str:
    """The namespace of the translating router."""
    return f"{plan.name}-nat"


def crypto_netns(lab: str, host: str) -> str:
    """The namespace in which a host's agent has WireGuard."""
    return link_names(f"{lab}-{host}", host).netns


def networks(plan: LabPlan, batch: Batch, shell: Shell) -> None:
    """Connect the outside interface of each host (out0) to the internet."""
    if not plan.sites:
        return
    router = router_netns(plan)
    shell("ip", "netns", "add", router)
    lines = [f"link add {INTERNET} type bridge forward_delay 0", f"link set {INTERNET} up"]
    lines += ["link add private type bridge forward_delay 0", "link set private up"]
    lines += [
        f"link add r-{bridge} type veth peer name {end} netns {router}" for bridge, end in ((INTERNET, "wan"), ("private", "lan"))
    ]
    lines += [f"link set r-{bridge} master {bridge} up" for bridge in (INTERNET, "private")]
    for host in plan.hosts:
        lines += [
            f"link add o{host.number} type veth peer name out0 netns {host.netns}",
            f"link set o{host.number} master {'private' if host.translated else INTERNET} up",
        ]
    batch(plan.netns, lines)
    behind = [host for host in plan.hosts if host.translated]
    batch(router, ["link set lo up", "link set wan up", "link set lan up", f"addr add {ROUTER}/24 dev lan", "addr add 198.18.2.1/24 dev wan"]
          + [f"addr add {host.public}/32 dev wan" for host in behind])  # fmt: skip
    shell(
        "ip",
        "netns",
        "exec",
        router,
        "sysctl",
        "-q",
        "-w",
        "net.ipv4.ip_forward=1",
        "net.ipv4.conf.all.send_redirects=0",
        "net.ipv4.conf.lan.send_redirects=0",
    )
    rules = ["table ip translation {", "chain in { type nat hook prerouting priority dstnat;"]
    rules += [f"ip daddr {host.public} dnat to {host.outside};" for host in behind]
    rules += ["}", "chain out { type nat hook postrouting priority srcnat;"]
    rules += [f"ip saddr {host.outside} snat to {host.public};" for host in behind]
    shell("nsenter", f"--net=/run/netns/{router}", "--", "nft", "\n".join([*rules, "}", "}"]))
    for host in plan.hosts:
        route = [f"route add 198.18.2.0/24 via {ROUTER} dev out0 onlink"] if host.translated else []
        # in a cloud, its metadata tells the address; DHCP would give the route
        address = [] if host.cloud else [f"addr add {host.outside}/24 dev out0"]
        batch(host.netns, ["link set out0 up", *address, *route])

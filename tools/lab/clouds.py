"""A laboratory in clouds: each site is a network in a cloud. A host has two NICs, one inside and one whose address the cloud translates to a
public one, and finds out both from a metadata service of its own, on 169.254.169.254 in its namespace."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tools.lab.machine import kernel_datapath
from tools.lab.plan import HostPlan, LabPlan
from tools.lab.sites import ROUTER, Batch

SERVICE = "169.254.169.254"
GATEWAY = "198.18.0.1"  # Google's hosts reach each other by it
REGIONS = {"aws": ("us-west-2", "us-west-2a"), "azure": ("westus", "1"), "gcp": ("us-west1", "us-west1-b")}
GOOGLE_MTU = 1460


def mac(host: HostPlan, number: int) -> str:
    """The MAC of a host's NIC: 0 is inside, 1 outside."""
    return f"02:98:00:00:{number:02x}:{host.number:02x}"


def instance(host: HostPlan) -> dict[str, Any]:
    """What the metadata says of a host, as tools/lab/metadata.py reads it."""
    region, zone = REGIONS[host.cloud]
    mtu = {"mtu": GOOGLE_MTU} if host.cloud == "gcp" else {}
    inside = {"mac": mac(host, 0), "addresses": [host.vtep], "subnets": ["198.18.0.0/24"], "gateway": GATEWAY, **mtu}
    public = {host.outside: host.public}
    outside = {
        "mac": mac(host, 1),
        "addresses": [host.outside],
        "subnets": ["198.18.3.0/24"],
        "gateway": ROUTER,
        "public": public,
    }
    nics = [inside, {**outside, **mtu}]
    return {
        "cloud": host.cloud,
        "name": host.name,
        "region": region,
        "zone": zone,
        "vpc": f"vpc-{host.site}",
        "nics": nics,
        "faults": {},
    }


def write(host: HostPlan, document: dict[str, Any]) -> None:
    """Change what the metadata says of a host."""
    temporary = host.directory / "instance.new"
    temporary.write_text(json.dumps(document))
    temporary.replace(host.directory / "instance.json")


def configure(host: HostPlan) -> None:
    """Write the files of a host's metadata service and of warren-underlay."""
    if not host.cloud:
        return
    write(host, instance(host))
    (host.directory / "cloud-network.toml").write_text('[System]\nRefreshTimer = "1s"\n')


def of_bridge(host: HostPlan) -> list[str]:
    """Return the settings of the bridge that userspace tunnels leave by: there it is the NIC of the metadata."""
    return [f"other_config:hwaddr={mac(host, 0)}"] if host.cloud else []


def networks(plan: LabPlan, batch: Batch, shell: Callable[..., object]) -> None:
    """Give the NICs of the metadata's MACs, the service's address, and the gateways of the insides."""
    if not plan.clouds:
        return
    lines = [f"addr add {GATEWAY}/32 dev {bridge}" for bridge in dict.fromkeys(host.inside for host in plan.hosts)]
    batch(plan.netns, lines + [f"route add {host.vtep} dev {host.inside}" for host in plan.hosts])
    forwards = ("net.ipv4.ip_forward=1", "net.ipv4.conf.all.send_redirects=0")
    shell("ip", "netns", "exec", plan.netns, "sysctl", "-q", "-w", *forwards)
    for host in plan.hosts:
        inside = [f"link set eth0 address {mac(host, 0)}"] if kernel_datapath() else []  # else it is br-phy's
        batch(host.netns, [*inside, f"link set out0 address {mac(host, 1)}", f"addr add {SERVICE}/32 dev lo"])

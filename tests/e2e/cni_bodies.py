"""Calls of CNI and of netavark that have what every command reads, for fuzzes."""

from __future__ import annotations

from typing import Any

NETWORK = "cni-odd"
CNI = ("ADD", "CHECK", "STATUS", "VERSION", "GC", "DEL")
NETAVARK = ("create", "setup", "teardown")


def cni(command: str, netns: str) -> dict[str, Any]:
    """A call that has what every command reads."""
    environment = {"CNI_COMMAND": command, "CNI_CONTAINERID": "odd1", "CNI_NETNS": netns, "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin",
                   "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=odd"}  # fmt: skip
    previous = {"interfaces": [{"name": "eth0", "mac": "02:00:00:00:06:02", "sandbox": netns}],
                "ips": [{"address": "10.62.0.9/24", "gateway": "10.62.0.1", "interface": 0}],
                "routes": [{"dst": "0.0.0.0/0", "gw": "10.62.0.1"}], "dns": {"nameservers": ["192.0.2.53"]}}  # fmt: skip
    runtime = {"ips": ["10.62.0.9/24"], "mac": "02:00:00:00:06:02", "aliases": {NETWORK: ["odd"]}, "dns": {"servers": ["192.0.2.53"]},
               "portMappings": [{"hostPort": 18262, "containerPort": 80, "protocol": "tcp", "hostIP": ""}]}  # fmt: skip
    config = {"cniVersion": "1.1.0", "name": NETWORK, "type": "warren", "labels": {"role": "odd"}, "mtu": 1446, "runtimeConfig": runtime,
              "args": {"cni": {"labels": [{"key": "app", "value": "odd"}]}},
              "cni.dev/valid-attachments": [{"containerID": "odd1", "ifname": "eth0"}]}  # fmt: skip
    return {"environment": environment, "config": config | ({"prevResult": previous} if command in ("CHECK", "DEL") else {})}


def netavark(command: str, netns: str) -> dict[str, Any]:
    """The same of netavark's."""
    network = {"name": NETWORK, "id": "4e92", "driver": "warren", "internal": False, "ipv6_enabled": False, "dns_enabled": False,
               "options": {"labels": "role=odd"}, "subnets": [{"subnet": "10.62.0.0/24", "gateway": "10.62.0.1"}]}  # fmt: skip
    options = {"interface_name": "eth1", "aliases": ["odd"], "static_ips": ["10.62.0.8"], "static_mac": "02:00:00:00:06:03"}
    ports = [{"container_port": 80, "host_port": 18263, "host_ip": "", "protocol": "tcp", "range": 1}]
    container = {
        "container_id": "odd2",
        "container_name": "odd2",
        "port_mappings": ports,
        "network": network,
        "network_options": options,
    }
    return {"command": command, "netns": netns, "config": network if command == "create" else container}

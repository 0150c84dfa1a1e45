"""A metadata service for laboratories and tests: speaks EC2's, Azure's or Google's dialect about an instance that a JSON file describes.

  python -m tools.lab.metadata --instance FILE [--listen 169.254.169.254:80] [--log FILE]

The file is read for each request: {"cloud": "aws", "region": "us-west-2", "zone": "us-west-2a", "vpc": "vpc-1", "name": "web", "nics": [{"mac":
"02:00:00:00:00:01", "addresses": ["10.4.0.5", "fd00::5"], "subnets": ["10.4.0.0/24"], "prefixes": [], "public": {"10.4.0.5": "198.51.100.5"},
"mtu": 1460, "gateway": "10.4.0.1", "gateway6": ""}], "faults": {}}. Faults: `status` (for every request), `path` (only for paths with this text),
`slow_s` (a byte at a time), `cut` (the connection ends in the middle), `garbage` (the text itself), `token_s` (how long tokens live), `no_token`.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from collections.abc import Mapping
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
POLL_S = 0.05
Instance = Mapping[str, Any]


def _version(text: str) -> int:
    return ip_address(text.partition("/")[0]).version


def _of(nic: Instance, name: str, version: int) -> list[str]:
    return [text for text in nic.get(name, ()) if _version(text) == version]


# ---- EC2


def ec2_tree(instance: Instance) -> dict[str, Any]:
    """Return the leaves below /latest: texts, and mappings for directories."""
    nics = instance["nics"]
    first = nics[0]
    local, public = (_of(first, "addresses", 4) or [""])[0], first.get("public", {})
    macs = {nic["mac"]: _ec2_nic(instance, number, nic) for number, nic in enumerate(nics)}
    meta = {
        "ami-id": "ami-0123456789abcdef0",
        "ami-launch-index": "0",
        "ami-manifest-path": "(unknown)",
        "block-device-mapping": {"ami": "xvda", "root": "/dev/xvda"},
        "hostname": f"{instance['name']}.internal",
        "iam": {"security-credentials": {"role": '{"SecretAccessKey": "SECRET"}'}},
        "identity-credentials": {"ec2": {"security-credentials": {"ec2-instance": '{"SecretAccessKey": "SECRET"}'}}},
        "instance-action": "none",
        "instance-id": "i-0123456789abcdef0",
        "instance-life-cycle": "on-demand",
        "instance-type": "t4g.micro",
        "local-hostname": f"{instance['name']}.internal",
        "local-ipv4": local,
        "mac": first["mac"],
        "network": {"interfaces": {"macs": macs}},
        "placement": {
            "availability-zone": instance["zone"],
            "availability-zone-id": "usw2-az4",
            "region": instance["region"],
        },
        "profile": "default-hvm",
        "public-hostname": "",
        "public-ipv4": public.get(local, ""),
        "public-keys": {"0=lab key": {"openssh-key": "ssh-ed25519 AAAA lab key\n"}},
        "security-groups": "default",
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    document = {"accountId": "123456789012", "architecture": "arm64", "availabilityZone": instance["zone"], "billingProducts": None,
                "imageId": "ami-0123456789abcdef0", "instanceId": "i-0123456789abcdef0", "instanceType": "t4g.micro", "kernelId": None,
                "pendingTime": "2026-01-01T00:00:00Z", "privateIp": local, "region": instance["region"], "version": "2017-09-30"}  # fmt: skip
    identity = {"document": json.dumps(document), "pkcs7": "PKCS7", "signature": "SIGNATURE", "rsa2048": "RSA2048"}
    return {"meta-data": meta, "dynamic": {"instance-identity": identity}}


def _ec2_nic(instance: Instance, number: int, nic: Instance) -> dict[str, Any]:
    public: Mapping[str, str] = nic.get("public", {})
    leaves: dict[str, Any] = {
        "device-number": str(number),
        "interface-id": f"eni-{number:017x}",
        "ipv4-associations": {outside: inside for inside, outside in public.items()},
        "ipv4-prefix": "\n".join(_of(nic, "prefixes", 4)),
        "ipv6-prefix": "\n".join(_of(nic, "prefixes", 6)),
        "ipv6s": "\n".join(_of(nic, "addresses", 6)),
        "local-hostname": f"{instance['name']}.internal",
        "local-ipv4s": "\n".join(_of(nic, "addresses", 4)),
        "mac": nic["mac"],
        "owner-id": "123456789012",
        "public-ipv4s": "\n".join(public.values()),
        "security-group-ids": "sg-1\nsg-2",
        "security-groups": "default\nweb",
        "subnet-id": f"subnet-{number}",
        "subnet-ipv4-cidr-block": "\n".join(_of(nic, "subnets", 4)),
        "subnet-ipv6-cidr-blocks": "\n".join(_of(nic, "subnets", 6)),
        "vpc-id": instance["vpc"],
        "vpc-ipv4-cidr-block": nic.get("vpc_range", ""),
        "vpc-ipv4-cidr-blocks": nic.get("vpc_range", ""),
    }
    return {name: value for name, value in leaves.items() if value}  # what an interface has not is a 404


def ec2_answer(tree: Mapping[str, Any], path: str) -> str | None:
    """Return the text at a path; a directory lists its entries, those of further directories with a slash."""
    node: Any = tree
    for part in path.removeprefix("/latest/").strip("/").split("/"):
        keys = [name for name in node if name == part or name.startswith(f"{part}=")] if isinstance(node, Mapping) else []
        if not keys:
            return None
        node = node[keys[0]]
    if isinstance(node, str):
        return node
    return "\n".join(name if "=" in name else f"{name}/" if isinstance(child, Mapping) else name for name, child in node.items())


# ---- Azure


def azure_document(instance: Instance) -> dict[str, Any]:
    """Return the document of /metadata/instance."""
    interfaces = []
    for nic in instance["nics"]:
        subnets = [ip_network(text) for text in _of(nic, "subnets", 4)]
        public = nic.get("public", {})
        pairs = {
            version: [
                {"privateIpAddress": text, "publicIpAddress": public.get(text, "")} for text in _of(nic, "addresses", version)
            ]
            for version in (4, 6)
        }
        interfaces.append({
            "ipv4": {
                "ipAddress": pairs[4],
                "subnet": [{"address": str(subnet.network_address), "prefix": str(subnet.prefixlen)} for subnet in subnets],
            },
            "ipv6": {"ipAddress": [{"privateIpAddress": pair["privateIpAddress"]} for pair in pairs[6]]},
            "macAddress": nic["mac"].replace(":", "").upper(),
        })  # fmt: skip
    compute = {
        "azEnvironment": "AzurePublicCloud", "customData": "SECRET", "location": instance["region"], "name": instance["name"],
        "offer": "debian-12", "osProfile": {"adminUsername": "lab", "computerName": instance["name"]}, "osType": "Linux",
        "provider": "Microsoft.Compute", "publicKeys": [{"keyData": "ssh-ed25519 AAAA lab", "path": "/home/lab/.ssh/authorized_keys"}],
        "publisher": "debian", "resourceGroupName": instance["vpc"], "securityProfile": {"secureBootEnabled": "false"},
        "subscriptionId": "00000000-0000-0000-0000-000000000001", "tagsList": [], "userData": "SECRET", "version": "0.1",
        "vmId": "00000000-0000-0000-0000-000000000002", "vmSize": "Standard_B1s",
    }  # fmt: skip
    return {"compute": compute, "network": {"interface": interfaces}}


# ---- Google


def gcp_document(instance: Instance) -> dict[str, Any]:
    """Return the document of /computeMetadata/v1/?recursive=true."""
    interfaces = []
    for nic in instance["nics"]:
        first, *further = [*_of(nic, "addresses", 4), *_of(nic, "prefixes", 4)]
        subnet = ip_network(_of(nic, "subnets", 4)[0])
        interface: dict[str, Any] = {
            "accessConfigs": [{"externalIp": outside, "type": "ONE_TO_ONE_NAT"} for outside in nic.get("public", {}).values()],
            "dnsServers": ["169.254.169.254"],
            "forwardedIps": [],
            "gateway": nic.get("gateway") or str(subnet[1]),
            "ip": first,
            "ipAliases": [text if "/" in text else f"{text}/32" for text in further],
            "mac": nic["mac"],
            "mtu": nic.get("mtu", 1460),
            "network": f"projects/1/networks/{instance['vpc']}",
            "subnetmask": str(subnet.netmask),
            "targetInstanceIps": [],
        }
        if v6 := _of(nic, "addresses", 6):
            interface |= {"ipv6s": v6, "gatewayIpv6": nic.get("gateway6", "fe80::1")}
        interfaces.append(interface)
    body = {
        "attributes": {"startup-script": "SECRET"}, "cpuPlatform": "Lab", "description": "", "disks": [], "id": 1, "image": "debian-12",
        "machineType": "projects/1/machineTypes/e2-micro", "maintenanceEvent": "NONE", "name": instance["name"],
        "networkInterfaces": interfaces, "remainingCpuTime": -1, "scheduling": {"automaticRestart": "TRUE"},
        "zone": f"projects/1/zones/{instance['zone']}",
    }  # fmt: skip
    project = {
        "attributes": {"ssh-keys": "lab:ssh-ed25519 AAAA lab", "other": "SECRET"},
        "numericProjectId": 1,
        "projectId": "lab",
    }
    return {"instance": body, "project": project}


# ---- the server


class MetadataService:
    """The instance in its file, and the tokens that the service has given."""

    def __init__(self, file: Path, log: Path | None) -> None:
        self._file, self._log = file, log
        self._tokens: dict[str, float] = {}
        self._read: tuple[bytes, dict[str, Any], dict[str, Any]] = (
            b"",
            {},
            {},
        )  # the file's content, its instance, EC2's tree of that

    def instance(self) -> dict[str, Any]:
        """Return the instance as the file has it now."""
        return self._now()[1]

    def ec2_tree(self) -> dict[str, Any]:
        """Return EC2's tree of the instance as the file has it now."""
        return self._now()[2]

    def _now(self) -> tuple[bytes, dict[str, Any], dict[str, Any]]:
        content, read = self._file.read_bytes(), self._read
        if content != read[0]:
            instance = json.loads(content)
            self._read = read = (content, instance, ec2_tree(instance) if instance["cloud"] == "aws" else {})
        return read

    def note(self, line: str) -> None:
        """Write a line to the log."""
        if self._log is not None:
            with self._log.open("a") as log:
                log.write(f"{line}\n")

    def new_token(self, asked_s: float, faults: Mapping[str, Any]) -> str:
        """Return a token; it lives as long as requested, or as the fault says."""
        token = secrets.token_urlsafe(16)
        self._tokens[token] = time.monotonic() + float(faults.get("token_s", asked_s))
        return token

    def lives(self, token: str) -> bool:
        """Return whether a token was given and has not expired."""
        return self._tokens.get(token, 0.0) > time.monotonic()

    def tag(self) -> str:
        """Return a tag of the interfaces, which changes when they do."""
        return sha256(json.dumps(self.instance()["nics"], sort_keys=True).encode()).hexdigest()[:16]


class Handler(BaseHTTPRequestHandler):
    """One request. `service` is set by `main`."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # headers and body are two packets
    service: MetadataService

    def do_PUT(self) -> None:
        """Give a token of EC2."""
        self._handle()

    def do_GET(self) -> None:
        """Answer with metadata."""
        self._handle()

    def log_message(self, format: str, *values: Any) -> None:  # noqa: A002
        """Log nothing: `note` does."""

    def _handle(self) -> None:
        instance = self.service.instance()
        faults = instance.get("faults", {})
        concerned = faults.get("path", "") in self.path
        status, text, headers = self._answer(instance, faults)
        if concerned and faults.get("status"):
            status, text = int(faults["status"]), "a fault"
        if concerned and "garbage" in faults and status == 200:
            text = faults["garbage"]
        self.service.note(f"{self.command} {self.path} {status}")
        body = text.encode()
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if concerned and faults.get("cut"):
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif concerned and faults.get("slow_s"):
            for byte in body:
                time.sleep(float(faults["slow_s"]))
                self.wfile.write(bytes((byte,)))
        else:
            self.wfile.write(body)

    def _answer(self, instance: Instance, faults: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        if self.headers.get("X-Forwarded-For"):
            return 403, "forwarded", {}
        dialect = {"aws": self._ec2, "azure": self._azure, "gcp": self._gcp}[instance["cloud"]]
        return dialect(instance, faults)

    def _ec2(self, instance: Instance, faults: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        if self.path == "/latest/api/token":
            if self.command != "PUT" or faults.get("no_token"):
                return (405 if self.command != "PUT" else 404), "", {}
            ttl = self.headers.get(TTL, "")
            if not ttl.isdigit() or not 1 <= int(ttl) <= 21_600:
                return 400, "", {}
            return 200, self.service.new_token(int(ttl), faults), {TTL: ttl}
        if not faults.get("no_token") and not self.service.lives(self.headers.get("X-aws-ec2-metadata-token", "")):
            return 401, "", {}
        text = ec2_answer(self.service.ec2_tree(), unquote(self.path))
        return (404, "", {}) if text is None else (200, text, {"Content-Type": "text/plain"})

    def _azure(self, instance: Instance, faults: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        path, _, query = self.path.partition("?")
        if self.headers.get("Metadata", "").lower() != "true" or "api-version=" not in query:
            return 400, '{"error": "Bad request"}', {}
        document: Any = azure_document(instance) if path.startswith("/metadata/instance") else None
        for part in path.removeprefix("/metadata/instance").strip("/").split("/"):
            document = document.get(part) if part and isinstance(document, Mapping) else document
        if document is None:
            return 404, '{"error": "Not found"}', {}
        return 200, json.dumps(document), {"Content-Type": "application/json"}

    def _gcp(self, instance: Instance, faults: Mapping[str, Any]) -> tuple[int, str, dict[str, str]]:
        if self.headers.get("Metadata-Flavor") != "Google":
            return 403, "Missing Metadata-Flavor:Google header.", {}
        path, _, query = self.path.partition("?")
        options = dict(part.split("=", 1) for part in query.split("&") if "=" in part)
        if options.get("wait_for_change") == "true":
            self._wait(options.get("last_etag", ""), float(options.get("timeout_sec", "60")))
        document: Any = gcp_document(self.service.instance())
        for part in path.removeprefix("/computeMetadata/v1").strip("/").split("/"):
            document = document[{"network-interfaces": "networkInterfaces"}.get(part, part)] if part else document
        headers = {"Content-Type": "application/json", "Metadata-Flavor": "Google", "ETag": self.service.tag()}
        return 200, json.dumps(document), headers

    def _wait(self, last: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while self.service.tag() == last and time.monotonic() < deadline:
            time.sleep(POLL_S)


def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser("metadata", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--instance", type=Path, required=True)
    parser.add_argument("--listen", default="169.254.169.254:80")
    parser.add_argument("--log", type=Path)
    options = parser.parse_args()
    host, _, port = options.listen.rpartition(":")
    Handler.service = MetadataService(options.instance, options.log)
    server = ThreadingHTTPServer((host.strip("[]"), int(port)), Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()

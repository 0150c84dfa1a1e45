"""Lays out what `cnctl` prints, line for line as cloud-network does, from the documents of the REST API. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# (label, path below the document, whether the line is left out without a value)
Rows = tuple[tuple[str, str, bool], ...]

_AZURE_SYSTEM: Rows = (
    ("  Azure Environment", "compute.azEnvironment", False),
    ("           Location", "compute.location", False),
    ("               Name", "compute.name", False),
    ("            OS Type", "compute.osType", False),
    ("              VM Id", "compute.vmId", False),
    ("  VM Scale Set Name", "compute.vmScaleSetName", True),
    ("            VM Size", "compute.vmSize", False),
    ("               Zone", "compute.zone", True),
    ("           Provider", "compute.provider", False),
    ("    Subscription Id", "compute.subscriptionId", False),
    ("          Publisher", "compute.publisher", True),
    ("            Version", "compute.version", True),
    ("        License Type", "compute.licenseType", True),
    ("      Computer Name", "compute.osProfile.computerName", False),
    ("Secure Boot Enabled", "compute.securityProfile.secureBootEnabled", True),
    ("Virtual Tpm Enabled", "compute.securityProfile.virtualTpmEnabled", True),
    ("         Tags List", "compute.tagsList", True),
    ("        Plan Name", "compute.plan.name", True),
    ("     Plan Product", "compute.plan.product", True),
    ("   Plan Publisher", "compute.plan.publisher", True),
    ("              Offer", "compute.offer", True),
    ("      Storage Profile", "compute.storageProfile.dataDisks", True),
    ("    Admin User name", "compute.osProfile.adminUsername", False),
)
_EC2_SYSTEM: Rows = (
    ("                     Host name", "hostname", False),
    ("              Public Host name", "public-hostname", False),
    ("               Local Host name", "local-hostname", False),
    ("               Instance Action", "instance-action", False),
    ("                   Instance Id", "instance-id", False),
    ("           Instance Life Cycle", "instance-life-cycle", False),
    ("                  InstanceType", "instance-type", False),
    ("   Placement Availability Zone", "placement.availability-zone", False),
    ("Placement Availability Zone Id", "placement.availability-zone-id", False),
    ("              Placement Region", "placement.region", False),
    ("                       Profile", "profile", False),
    ("                   Mac Address", "mac", False),
    ("                    Local Ipv4", "local-ipv4", False),
    ("                   Public Ipv4", "public-ipv4", False),
    ("               Services Domain", "services.domain", False),
    ("            Services Partition", "services.partition", False),
)
_EC2_NETWORK: Rows = (
    ("           MAC Address", "mac", False),
    ("         Device Number", "device-number", False),
    ("          Interface Id", "interface-id", False),
    ("       Public Hostname", "public-hostname", True),
    ("       Local Host name", "local-hostname", False),
    ("           Local Ipv4S", "local-ipv4s", False),
    ("          Public Ipv4S", "public-ipv4s", True),
    ("             Subnet Id", "subnet-id", False),
    ("Subnet Ipv4 Cidr Block", "subnet-ipv4-cidr-block", False),
    ("     Security Group Id", "security-group-ids", False),
    ("       Security Groups", "security-groups", False),
    ("                Vpc ID", "vpc-id", False),
    ("   Vpc Ipv4 Cidr Block", "vpc-ipv4-cidr-block", False),
    ("  Vpc Ipv4 Cidr Blocks", "vpc-ipv4-cidr-blocks", False),
)
_EC2_DOCUMENT: Rows = (
    ("             Account Id", "accountId", False),
    ("           Architecture", "architecture", False),
    ("      Availability Zone", "availabilityZone", False),
    ("       Billing products", "billingProducts", True),
    ("               Image Id", "imageId", False),
    ("            Instance Id", "instanceId", False),
    ("          Instance Type", "instanceType", False),
    ("              Kernel id", "kernelId", True),
    ("Market place product codes", "marketplaceProductCodes", True),
    ("           Pending time", "pendingTime", False),
    ("             Private Ip", "privateIp", False),
    ("             Ramdisk Id", "ramdiskId", True),
    ("                 Region", "region", False),
    ("                Version", "version", False),
)
_GCP_SYSTEM: Rows = (
    ("                                        Id", "instance.id", False),
    ("                                      Name", "instance.name", False),
    ("                              Cpu platform", "instance.cpuPlatform", False),
    ("                               Description", "instance.description", True),
    ("                                     Image", "instance.image", False),
    ("                              Machine type", "instance.machineType", False),
)
_GCP_DISK: Rows = (
    ("                          Disk Device name", "deviceName", False),
    ("                                Disk Index", "index", False),
    ("                            Disk Interface", "interface", False),
    ("                                 Disk Mode", "mode", False),
    ("                                 Disk Type", "type", False),
)
_GCP_SCHEDULING: Rows = (
    ("                         Maintenance event", "instance.maintenanceEvent", False),
    ("  Instance ID Scheduling Automatic restart", "instance.scheduling.automaticRestart", False),
    ("Instance ID Scheduling On host maintenance", "instance.scheduling.onHostMaintenance", False),
    ("        Instance ID Scheduling Preemptible", "instance.scheduling.preemptible", False),
    ("          nstance Virtualclock Drift token", "instance.virtualClock.driftToken", False),
    ("                                      Zone", "instance.zone", False),
    ("                        Remaining cpu time", "instance.remainingCpuTime", False),
)
_GCP_PROJECT: Rows = (
    ("                              Project Id", "project.projectId", False),
    ("                      Numeric Project Id", "project.numericProjectId", False),
)
_GCP_ACCOUNT: Rows = (
    (" Instane Service Accounts {}Aliase", "aliases", False),
    ("  Instane Service Accounts {}Email", "email", False),
    (" Instane Service Accounts {}Scopes", "scopes", False),
)
_NUMBERS = ("instance.id", "index", "instance.remainingCpuTime", "project.numericProjectId", "mtu")
_JOINED = ("scopes", "ipAliases", "dnsServers")


def cloud_of(document: Any) -> str:
    """Return the cloud whose system document this is, by its shape."""
    if isinstance(document, Mapping) and "compute" in document:
        return "azure"
    return "gcp" if isinstance(document, Mapping) and "instance" in document else "aws"


def system(document: Any) -> str:
    """Return the text of `cnctl status system`."""
    cloud = cloud_of(document)
    if cloud == "azure":
        return _text(("     Cloud provider: azure ", *_lines(_AZURE_SYSTEM, document)))
    if cloud == "gcp":
        disks = [line for disk in _list(document, "instance.disks") for line in _lines(_GCP_DISK, disk)]
        first = "                            Cloud Provider: gcp "
        return _text((first, *_lines(_GCP_SYSTEM, document), *disks, *_lines(_GCP_SCHEDULING, document)))
    mapping = "block-device-mapping"
    return _text((
        "                Cloud provider: aws ",
        f"                        Ami ID: {_at(document, 'ami-id')} ",
        f"                      Location: {_at(document, 'ami-launch-index')} ",
        f"             Ami Manifest Path: {_at(document, 'ami-manifest-path')} ",
        f"      Block Device Mapping Ami: {_at(document, f'{mapping}.ami')} Root: {_at(document, f'{mapping}.root')}",
        *_lines(_EC2_SYSTEM, document),
    ))  # fmt: skip


def network(cloud: str, document: Any, names: Mapping[str, str]) -> str:
    """Return the text of `cnctl status network`. `names` has the names of the links by their MACs; NICs without a link are left out."""
    if cloud == "azure":
        blocks = [_azure_nic(nic, names) for nic in _list(document, "network.interface")]
    elif cloud == "gcp":
        blocks = [_gcp_nic(nic, names) for nic in _list(document, "instance.networkInterfaces")]
    else:
        trees = [tree for tree in (document or {}).values() if isinstance(tree, Mapping)]
        numbered = sorted(trees, key=lambda tree: (len(_at(tree, "device-number")), _at(tree, "device-number")))
        blocks = [_ec2_nic(tree, names) for tree in numbered]
    return "".join(_text(block) for block in blocks if block)


def _azure_nic(nic: Any, names: Mapping[str, str]) -> list[str]:
    digits = _at(nic, "macAddress").lower()
    mac = ":".join(digits[i : i + 2] for i in range(0, len(digits), 2)) if ":" not in digits else digits
    subnets = _list(nic, "ipv4.subnet")
    subnet = subnets[0] if subnets else {}
    pairs = _list(nic, "ipv4.ipAddress")
    if mac not in names:
        return []
    return [
        f"       Name: {names[mac]} ",
        f"MAC Address: {mac} ",
        f"  Public Ip: {''.join(_at(pair, 'publicIpAddress') + ' ' for pair in pairs)} ",
        f" Private Ip: {''.join(_at(pair, 'privateIpAddress') + '/' + _at(subnet, 'prefix') + ' ' for pair in pairs)} ",
        f"     Subnet: {_at(subnet, 'address')} ",
        "",
    ]


def _ec2_nic(tree: Any, names: Mapping[str, str]) -> list[str]:
    if _at(tree, "mac") not in names:
        return []
    owner = [f"              Owner Id: {_at(tree, 'owner-id')} ", f"                  Name: {names[_at(tree, 'mac')]} "]
    lines = list(_lines(_EC2_NETWORK, tree))
    after = next(number for number, line in enumerate(lines) if line.startswith("Subnet Ipv4 Cidr Block")) + 1
    associations = tree.get("ipv4-associations")
    if isinstance(associations, Mapping) and associations:
        pairs = " ".join(f"{public}:{private}" for public, private in sorted(associations.items()))
        lines[after:after] = [f"    Ipv4 Association: {pairs} ", ""]
    return [*owner, *lines, ""]


def _gcp_nic(nic: Any, names: Mapping[str, str]) -> list[str]:
    if _at(nic, "mac") not in names:
        return []
    rows: Rows = (
        ("               MAC Address", "mac", False),
        ("                       MTU", "mtu", False),
        ("                Private Ip", "ip", False),
        ("                Ip aliases", "ipAliases", True),
        ("               Subnet mask", "subnetmask", False),
        ("                   Gateway", "gateway", False),
        ("               DNS servers", "dnsServers", False),
        ("                   Network", "network", False),
        ("       Target instance Ips", "targetInstanceIps", True),
    )
    access = [
        f"Access configs External Ip: {_at(config, 'externalIp')} Type: {_at(config, 'type')}"
        for config in _list(nic, "accessConfigs")
    ]
    return [f"                      Name: {names[_at(nic, 'mac')]} ", *_lines(rows, nic), *access, ""]


def project(document: Any) -> str:
    """Return the text of `cnctl show project`, which only GCP has."""
    accounts = _value(document, "instance.serviceAccounts")
    accounts = accounts if isinstance(accounts, Mapping) else {}
    lines = list(_lines(_GCP_PROJECT, document))
    for name in ("default", *sorted(set(accounts) - {"default"})):
        for label, path, _ in _GCP_ACCOUNT:
            word = label.format("Default " if name == "default" else "")
            lines.append(f"{word:>40}: {_printed(accounts.get(name), path)} ")
    return _text(lines)


def document(content: Any) -> str:
    """Return the text of `cnctl show document`."""
    return _text(line.removesuffix(" ") for line in _lines(_EC2_DOCUMENT, content))


def ssh_keys(content: Any) -> str:
    """Return the text of `cnctl show ssh-keys`, from the system document."""
    cloud = cloud_of(content)
    if cloud == "azure":
        keys = _list(content, "compute.publicKeys")
        blocks = [f"Public Key Path: {_at(key, 'path')} \nPublic Key Data: {_at(key, 'keyData')} \n\n" for key in keys]
        return f"  AdminUsername: {_at(content, 'compute.osProfile.adminUsername')} \n" + "".join(blocks)
    if cloud == "gcp":
        text = "\n".join(_at(content, f"project.attributes.{name}").strip(" ") for name in ("ssh-keys", "sshKeys"))
        return "".join(f"ssh-key: {line}\n\n" for line in text.split("\n") if line)
    keys = _value(content, "public-keys")
    return "".join(f"{name}: {key}\n\n" for name, key in keys.items()) if isinstance(keys, Mapping) else ""


def _text(lines: Any) -> str:
    return "".join(f"{line}\n" for line in lines)


def _lines(rows: Rows, content: Any) -> Iterator[str]:
    for label, path, optional in rows:
        if not optional or _value(content, path):
            yield f"{label}: {_printed(content, path)} "


def _value(content: Any, path: str) -> Any:
    """Return the value at a path of names; keys of documents have no dots."""
    for name in path.split("."):
        content = content.get(name) if isinstance(content, Mapping) else None
    return content


def _printed(content: Any, path: str) -> str:
    value = _value(content, path)
    if value is None:
        return "0" if path in _NUMBERS else "[]" if path == "aliases" else ""
    return " ".join(map(str, value)) if path in _JOINED and isinstance(value, list) else go(value)


def _at(content: Any, path: str) -> str:
    value = _value(content, path)
    return "" if value is None else str(value)


def _list(content: Any, path: str) -> list[Any]:
    value = _value(content, path)
    return value if isinstance(value, list) else []


def go(value: Any) -> str:
    """Return a value of JSON as Go prints it (%+v)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + " ".join(go(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{name}:{go(value[name])}" for name in sorted(value)) + "]"
    return "<nil>" if value is None else str(value)

"""Recognises the cloud by the firmware's description of the machine (DMI). Pure but for the reading of a few files of sysfs."""

from __future__ import annotations

from pathlib import Path

from warren.errors import Invalid, Unavailable

SUPPORTED = ("aws", "azure", "gcp")
_DMI = "class/dmi/id"
_AZURE_CHASSIS = "7783-7084-3265-9085-8269-3286-77"


def cloud(sysfs: Path) -> str:
    """Return the name of the cloud that this machine runs in. Raises `Unavailable` outside of clouds, `Invalid` in one that is not supported."""
    name = recognised({name: _text(sysfs / path) for name, path in FILES.items()})
    if name is None:
        raise Unavailable("a cloud's metadata", f"the firmware ({sysfs / _DMI}) names no cloud; name it with --provider")
    if name not in SUPPORTED:
        raise Invalid("provider", name, " or ".join(SUPPORTED))
    return name


FILES = {
    name: f"{_DMI}/{name}" for name in ("sys_vendor", "chassis_asset_tag", "product_uuid", "product_version", "product_name")
}
FILES["hypervisor_uuid"] = "hypervisor/uuid"


def recognised(firmware: dict[str, str]) -> str | None:
    """Return the name of the cloud that the firmware names, even if that cloud is not supported."""
    signs = (
        ("azure", "Microsoft Corporation" in firmware["sys_vendor"] or _AZURE_CHASSIS in firmware["chassis_asset_tag"]),
        ("aws", _is_ec2(firmware)),
        ("gcp", "Google Compute Engine" in firmware["product_name"]),
        ("alibaba", "Alibaba Cloud" in firmware["product_name"]),
        ("oracle", "OracleCloud" in firmware["chassis_asset_tag"]),
        ("digitalocean", "DigitalOcean" in firmware["sys_vendor"]),
    )
    return next((name for name, holds in signs if holds), None)


def _is_ec2(firmware: dict[str, str]) -> bool:
    """Return whether this is EC2, by UUID or by vendor, because only root can read the UUID."""
    uuids = (firmware["hypervisor_uuid"], firmware["product_uuid"])
    return (
        any(uuid.lower().startswith("ec2") for uuid in uuids)
        or "amazon" in firmware["product_version"]
        or firmware["sys_vendor"].startswith("Amazon EC2")
    )


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""

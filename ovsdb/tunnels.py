"""The rows of the ports to other hosts that tunnel profiles want. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from ovsdb.rows import Port, vxlan_port
from specs.model.host import Host
from specs.model.profile import Profile, all_profiles


def profile_ports(profiles: Mapping[str, Profile], host: Host | None) -> tuple[Port, ...]:
    """Return the VXLAN ports of the profiles that a host is in. Every bridge has that of `default`."""
    return tuple(
        vxlan_port(profile, host)
        for profile in all_profiles(profiles)
        if not profile.number or (host is not None and profile.has(host))
    )

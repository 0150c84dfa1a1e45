"""Tunnel profiles over HTTP."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from agent.core import Core
from agent.switch import read_snapshot
from specs.model.profile import DEFAULT, Profile, ProfileItem, all_profiles, profile_of
from specs.paths import paths_mtu
from specs.snapshot import Snapshot
from warren.errors import NotFound


def router(core: Core) -> APIRouter:
    """The routes of tunnel profiles."""
    router = APIRouter(tags=["Warren"])

    @router.get("/profiles")
    def profiles() -> dict[str, Any]:
        """All tunnel profiles, with what endpoints of their networks get as MTU, their hosts that exist, and their networks."""
        state = read_snapshot(core.store)
        return {"profiles": [_shown(profile, state) for profile in all_profiles(state.profiles)]}

    @router.get("/profiles/{name}")
    def show_profile(name: str) -> dict[str, Any]:
        """One tunnel profile."""
        state = read_snapshot(core.store)
        profile = profile_of(name, state.profiles)
        if profile is None:
            raise NotFound("profile", name)
        return {"profile": _shown(profile, state)}

    @router.post("/profiles", status_code=201)
    def put_profile(body: ProfileItem) -> dict[str, Any]:
        """Create a tunnel profile, or change one. Without a port the next free one is taken."""
        record, _ = core.repository.put_profile(body.model_dump(mode="json", exclude_none=True))
        return {"profile": _shown(record, read_snapshot(core.store))}

    @router.delete("/profiles/{name}", status_code=204)
    def delete_profile(name: str) -> Response:
        """Delete a tunnel profile that no network names. `default` goes back to its settings without a record."""
        core.repository.delete_profile(name)
        return Response(status_code=204)

    return router


def _shown(profile: Profile, state: Snapshot) -> dict[str, Any]:
    members = [host for _, host in sorted(state.hosts.items()) if profile.has(host)]
    networks = sorted(n.name for n in state.networks.values() if (n.profile or DEFAULT) == profile.name)
    fields = {name: value for name, value in profile.data().items() if name != "number"}
    carried = paths_mtu(state.hosts.values(), state.sites, profile)
    return fields | {"endpoint_mtu": carried, "members": [host.name for host in members], "networks": networks}

"""Tunnel profiles over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict, Field

from agent.core import Core
from agent.switch import read_snapshot
from specs.documents.export import as_yaml
from specs.model.base import restated
from specs.model.profile import ALL, DEFAULT, RULE_LIMIT, HostWords, Profile, ProfileItem, all_profiles, profile_of
from specs.paths import paths_mtu
from specs.smartos import rule, table
from specs.snapshot import Snapshot
from warren.errors import Invalid, NotFound


class RuleBody(BaseModel):
    """POST /profiles/{name}/rule: an overlay rule, and the hosts of the profile (default: all, or those that it has)."""

    model_config = ConfigDict(extra="forbid")

    rule: Annotated[str, Field(max_length=RULE_LIMIT)]
    hosts: HostWords | None = None


class TableBody(BaseModel):
    """POST /smartos/table: the JSON text of a table, and the network whose endpoints it has."""

    model_config = ConfigDict(extra="forbid")

    table: str
    network: str


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
        return {"profile": _shown(_profile(state, name), state)}

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

    _smartos_routes(router, core)
    return router


def _smartos_routes(router: APIRouter, core: Core) -> None:
    """What SmartOS reads and writes of overlays."""

    @router.post("/profiles/{name}/rule", status_code=201)
    def import_rule(name: str, body: RuleBody) -> dict[str, Any]:
        """Create a tunnel profile from an overlay rule of SmartOS, or change one; what a rule does not say stays as it is."""
        overlay = rule.parse(body.rule)
        if overlay.search != "files":
            raise Invalid("rule", body.rule, "-s files: Warren itself knows where each MAC is")
        old = core.repository.profiles().get(name)
        draft = restated(
            {"hosts": [ALL], **(old.data() if old is not None else {})}, {"name": name, "rule": body.rule, **overlay.fields()}
        )
        record, _ = core.repository.put_profile(draft | ({"hosts": body.hosts} if body.hosts is not None else {}))
        return {"profile": _shown(record, read_snapshot(core.store))}

    @router.get("/profiles/{name}/rule")
    def export_rule(name: str) -> dict[str, Any]:
        """A tunnel profile as an overlay rule of SmartOS: as it was imported, if it still says what the profile is."""
        state = read_snapshot(core.store)
        profile = _profile(state, name)
        return {"rule": rule.rule_of(profile, paths_mtu(state.hosts.values(), state.sites, profile))}

    @router.get("/profiles/{name}/table")
    def export_table(name: str, host: str, network: str | None = None) -> dict[str, Any]:
        """The table of SmartOS's search plug-in `files` for a host: where each MAC of the profile's networks (or of one of them) is."""
        state = read_snapshot(core.store)
        profile = _profile(state, name)
        networks = {
            n.id: n for n in state.networks.values() if (n.profile or DEFAULT) == name and network in (None, *n.references)
        }
        if network is not None and not networks:
            raise NotFound(f"network of profile {name}", network)
        entries = table.table_of(core.lookup.host(host), profile, state.hosts, networks, state.endpoints.values())
        return {"table": {mac: entry.data() for mac, entry in sorted(entries.items())}}

    @router.post("/smartos/table")
    def import_table(body: TableBody) -> dict[str, Any]:
        """The endpoints of such a table as a document for `apply`: they are on the hosts that have the addresses, and keep MACs and addresses for
        containers that are to come."""
        state = read_snapshot(core.store)
        items = table.items_of(table.parse(body.table), core.lookup.network(body.network).name, state.hosts)
        return {"document": as_yaml({"endpoints": items})}


def _profile(state: Snapshot, name: str) -> Profile:
    profile = profile_of(name, state.profiles)
    if profile is None:
        raise NotFound("profile", name)
    return profile


def _shown(profile: Profile, state: Snapshot) -> dict[str, Any]:
    members = [host for _, host in sorted(state.hosts.items()) if profile.has(host)]
    networks = sorted(n.name for n in state.networks.values() if (n.profile or DEFAULT) == profile.name)
    fields = {name: value for name, value in profile.data().items() if name != "number"}
    carried = paths_mtu(state.hosts.values(), state.sites, profile)
    return fields | {"endpoint_mtu": carried, "members": [host.name for host in members], "networks": networks}

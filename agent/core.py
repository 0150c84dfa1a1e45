"""Core: the parts of the agent that every feature and every HTTP route may use."""

from __future__ import annotations

from dataclasses import dataclass

from agent.cache import Cache
from agent.config import Config
from agent.endpoints.endpoints import Endpoints
from agent.lookup import Lookup
from agent.peers import Peers
from agent.remote import Remote
from agent.switch import Switch
from ovsdb.client import Ovsdb
from specs.model.host import Host
from specs.store.etcd import Store
from specs.store.repository import Repository


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The shared parts of one host's agent."""

    config: Config
    host: Host
    cache: Cache
    store: Store  # for reads; `repository` writes specs
    repository: Repository
    ovsdb: Ovsdb
    switch: Switch
    endpoints: Endpoints
    lookup: Lookup
    peers: Peers
    remote: Remote

"""The etcd layout, in one place. Keys are relative to the prefix (default `/warren`); docs/specs.md explains them."""

from __future__ import annotations

SPEC = "spec/"
HOSTS = "spec/hosts/"
CLUSTERS = "spec/clusters/"
SITES = "spec/sites/"
PROFILES = "spec/profiles/"
FIREWALLS = "spec/firewalls/"
HOSTNETS = "spec/hostnets/"
NETWORKS = "spec/networks/"
ENDPOINTS = "spec/endpoints/"
ACLS = "spec/acls/"
METERS = "spec/meters/"
MIRRORS = "spec/mirrors/"
ROUTERS = "spec/routers/"
SERVICES = "spec/services/"
ADOPTIONS = "spec/adoptions/"
CAPTURES = "spec/captures/"
STORE = "spec/store/"
CLAIM = "claim/"
POOL = "pool/"
SECRETS = "secret/"
CLAIM_TUNNEL_ADDRESS = "claim/tunnel-address/"
PLACING = "spec/placing/"
PLACEMENTS = "placement/"
PUBLISHERS = "publisher/"
CLAIM_ENDPOINT_NAME = "claim/endpoint-name/"
TENANTS = "spec/tenants/"
POOL_PUBLISHED = "pool/published/"
STATUS = "status/"
STATUS_AGENTS = "status/agents/"
STATUS_CONTROLLERS = "status/controllers/"
STATUS_ENDPOINTS = "status/endpoints/"
STATUS_CLAIMANTS = "status/claimants/"


def host(name: str) -> str:
    """Key of a host's spec."""
    return f"{HOSTS}{name}"


def cluster(name: str) -> str:
    """Key of the settings of the cluster."""
    return f"{CLUSTERS}{name}"


def site(name: str) -> str:
    """Key of a site."""
    return f"{SITES}{name}"


def profile(name: str) -> str:
    """Key of a tunnel profile."""
    return f"{PROFILES}{name}"


def claim_profiles() -> str:
    """Key touched by every transaction that changes a profile: those that make networks compare it."""
    return "claim/tunnel-profiles"


def firewall(name: str) -> str:
    """Key of the firewall's settings."""
    return f"{FIREWALLS}{name}"


def secrets_of(host_name: str) -> str:
    """Prefix of the secrets that a host shares with others: what a role of etcd for this host must read, and no other."""
    return f"{SECRETS}{host_name}/"


def secret(host_name: str, peer: str) -> str:
    """Holds the secret that a host shares with a peer; the peer has the same at its own key."""
    return f"{SECRETS}{host_name}/{peer}"


def hostnet(name: str) -> str:
    """Key of what a host's agent has published about the host's own network."""
    return f"{HOSTNETS}{name}"


def lineage() -> str:
    """Holds a random id of this etcd's history (specs/lineage.py)."""
    return f"{STORE}lineage"


def accepted() -> str:
    """Holds the lineage that an administrator has accepted: hosts act on what it lacks."""
    return f"{STORE}accepted"


def network(network_id: str) -> str:
    """Key of a network's spec."""
    return f"{NETWORKS}{network_id}"


def endpoints_of(network_id: str) -> str:
    """Prefix of the endpoints of a network: an empty range there means that the network may go."""
    return f"{ENDPOINTS}{network_id}/"


def endpoint(network_id: str, endpoint_id: str) -> str:
    """Key of an endpoint's spec."""
    return f"{ENDPOINTS}{network_id}/{endpoint_id}"


def placing(host_name: str) -> str:
    """Says that all endpoints of a host have their placements (`placement`)."""
    return f"{PLACING}{host_name}"


def placements_of(host_name: str) -> str:
    """Prefix of the placements of a host's endpoints."""
    return f"{PLACEMENTS}{host_name}/"


def placement(host_name: str, endpoint_id: str) -> str:
    """Holds the id of the network of an endpoint: by these keys a host finds its endpoints without reading all."""
    return f"{PLACEMENTS}{host_name}/{endpoint_id}"


def publishers_of(host_name: str) -> str:
    """Prefix of the published ports of a host's endpoints."""
    return f"{PUBLISHERS}{host_name}/"


def publisher(host_name: str, endpoint_id: str) -> str:
    """Holds the ports that an active endpoint publishes, which the agents of all hosts must know."""
    return f"{PUBLISHERS}{host_name}/{endpoint_id}"


def network_of(key: str) -> str | None:
    """The id of the network of an endpoint's key; None for another key."""
    return key.split("/")[2] if key.startswith(ENDPOINTS) else None


def acl(name: str) -> str:
    """Key of an ACL."""
    return f"{ACLS}{name}"


def mirror(name: str) -> str:
    """Key of a mirror session."""
    return f"{MIRRORS}{name}"


def router(name: str) -> str:
    """Key of a router."""
    return f"{ROUTERS}{name}"


def service(name: str) -> str:
    """Key of a service."""
    return f"{SERVICES}{name}"


def adoption(name: str) -> str:
    """Key of an adoption rule."""
    return f"{ADOPTIONS}{name}"


def claim_tenants() -> str:
    """Key touched by every transaction that changes a tenant: those that make networks compare it."""
    return "claim/tenancy/tenants"


def claim_networks() -> str:
    """Key touched by every transaction that makes a network or changes its VLAN: those that change tenants compare it."""
    return "claim/tenancy/networks"


def claim_routing() -> str:
    """Key touched by every router or service transaction, so that concurrent writers conflict and retry."""
    return "claim/ways"


def capture(name: str) -> str:
    """Key of a temporary mirror session; it stands under the lease of the agent that asked for it."""
    return f"{CAPTURES}{name}"


def claim_captures(host_name: str) -> str:
    """Prefix of the VNIs that the captures of a host's agent have."""
    return f"claim/capture/{host_name}/"


def meter(name: str) -> str:
    """Key of a meter."""
    return f"{METERS}{name}"


def tenant(name: str) -> str:
    """Key of a tenant."""
    return f"{TENANTS}{name}"


def claim_meter_id_prefix() -> str:
    """Prefix of the meter ids in use."""
    return "claim/meter-id/"


def claim_meter_id(number: int) -> str:
    """Holds the name of the meter that has this id."""
    return f"{claim_meter_id_prefix()}{number}"


def claim_network_name(name: str) -> str:
    """Holds the id of the network that has this name."""
    return f"claim/network-name/{name}"


def claim_host_vtep(address: str) -> str:
    """Holds the name of the host that has this VTEP address."""
    return f"claim/host-vtep/{address}"


def claim_tunnel_address(address: str) -> str:
    """Holds the name of the host that has this address in encrypted tunnels."""
    return f"{CLAIM_TUNNEL_ADDRESS}{address}"


def claim_endpoint_name(network_id: str, name: str) -> str:
    """Holds the id of the endpoint that has this name in the network."""
    return f"{CLAIM_ENDPOINT_NAME}{network_id}/{name}"


def claim_endpoint_mac(network_id: str, mac: str) -> str:
    """Holds the id of the endpoint that has this MAC in the network."""
    return f"claim/endpoint-mac/{network_id}/{mac}"


def claim_allowed(network_id: str) -> str:
    """Counts the addresses, ranges and MACs that endpoints of a network are allowed besides their own."""
    return f"claim/allowed/{network_id}"


def pool_vni(profile: str | None = None) -> str:
    """Prefix of the bitmap blocks of VNIs in use in a tunnel profile (None: in `default`)."""
    return f"pool/vni-of/{profile}/" if profile else "pool/vni/"


def pool_v4(network_id: str) -> str:
    """Prefix of the bitmap blocks of IPv4 addresses in use in a network."""
    return f"pool/v4/{network_id}/"


def pool_v6(network_id: str) -> str:
    """Prefix of the bitmap blocks of IPv6 addresses in use in a network."""
    return f"pool/v6/{network_id}/"


def pool_ofport(host_name: str) -> str:
    """Prefix of the bitmap blocks of OpenFlow ports in use on a host."""
    return f"pool/ofport/{host_name}/"


def pool_published(host_name: str, proto: str) -> str:
    """Prefix of the bitmap blocks of the ports of a host that are published."""
    return f"{POOL_PUBLISHED}{host_name}/{proto}/"


def pool_services(proto: str) -> str:
    """Prefix of the bitmap blocks of the ports that services have, on all hosts."""
    return f"pool/services/{proto}/"


def docker(host_name: str) -> str:
    """Prefix of what a host's engine has asked for."""
    return f"docker/{host_name}/"


def docker_network(host_name: str, docker_id: str) -> str:
    """Which Warren network a Docker network of a host is."""
    return f"docker/{host_name}/networks/{docker_id}"


def docker_pools(host_name: str) -> str:
    """Prefix of the pools of addresses that a host's engine has asked for."""
    return f"docker/{host_name}/pools/"


def docker_containers(host_name: str) -> str:
    """Prefix of what a host's engine has told of its containers."""
    return f"docker/{host_name}/containers/"


def status_agent(host_name: str) -> str:
    """Written by a host's agent under its lease."""
    return f"{STATUS_AGENTS}{host_name}"


def status_controller(host_name: str) -> str:
    """Written by a host's controller under its lease: the revision applied, problems."""
    return f"{STATUS_CONTROLLERS}{host_name}"


def status_endpoints_of(host_name: str) -> str:
    """Prefix of the endpoint states that a host's controller reports."""
    return f"{STATUS_ENDPOINTS}{host_name}/"


def status_endpoint(host_name: str, endpoint_id: str) -> str:
    """Written by the host's controller: up or closed, and why."""
    return f"{STATUS_ENDPOINTS}{host_name}/{endpoint_id}"


def status_claimants_of(host_name: str) -> str:
    """Prefix of the reports of machines that were refused as a host."""
    return f"{STATUS_CLAIMANTS}{host_name}/"


def status_claimant(host_name: str, process: str) -> str:
    """Written under its lease by a process that was refused as this host, or that used to be it."""
    return f"{STATUS_CLAIMANTS}{host_name}/{process}"

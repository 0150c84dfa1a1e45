"""The Docker driver under other names: SAND's port and file, a socket for each name, and `sand-id` in one set of options alone. The calls are
those of the engine; tests/e2e/test_docker_sand.py has real engines."""

from __future__ import annotations

import json
import signal
import uuid
from typing import Any

import httpx
import pytest

from tests.agent.conftest import Host


class Engine:
    """What Docker's engine sends to one name of the driver."""

    def __init__(self, client: httpx.Client) -> None:
        self.client = client

    def call(self, name: str, **body: Any) -> dict[str, Any]:
        """A call's answer."""
        answer = self.client.post(f"/{name}", content=json.dumps(body))
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()
        return data

    def create(self, opt: dict[str, str], ipam_opt: dict[str, str], subnet: str = "") -> dict[str, Any]:
        """`docker network create --driver NAME --ipam-driver NAME`: the error, or the network's id and pool."""
        pool = self.call(
            "IpamDriver.RequestPool", AddressSpace="warren-local", Pool=subnet, SubPool="", Options=ipam_opt, V6=False
        )
        if pool.get("Error"):
            return pool
        gateway = self.address(pool["PoolID"], {"RequestAddressType": "com.docker.network.gateway"})
        network = uuid.uuid4().hex * 2
        data = {"AddressSpace": "warren-local", "Pool": pool["Pool"], "Gateway": gateway}
        made = self.call(
            "NetworkDriver.CreateNetwork", NetworkID=network, Options={"com.docker.network.generic": opt}, IPv4Data=[data]
        )
        if made.get("Err"):
            self.call("IpamDriver.ReleasePool", PoolID=pool["PoolID"])
            return made
        return {"network": network, "pool": pool["PoolID"], "range": pool["Pool"]}

    def address(self, pool: str, options: dict[str, str]) -> str:
        """An address of a pool."""
        return str(self.call("IpamDriver.RequestAddress", PoolID=pool, Address="", Options=options).get("Address"))

    def container(self, made: dict[str, Any]) -> str:
        """The address of a new endpoint on a network, which is deleted again."""
        address = self.address(made["pool"], {})
        endpoint = {"NetworkID": made["network"], "EndpointID": uuid.uuid4().hex * 2}
        answer = self.call("NetworkDriver.CreateEndpoint", **endpoint, Interface={"Address": address}, Options={})
        assert answer.get("Interface", {}).get("MacAddress"), answer
        self.call("NetworkDriver.DeleteEndpoint", **endpoint)
        return address

    def remove(self, made: dict[str, Any]) -> None:
        """`docker network rm`."""
        self.call("IpamDriver.ReleasePool", PoolID=made["pool"])
        self.call("NetworkDriver.DeleteNetwork", NetworkID=made["network"])


@pytest.fixture(scope="module")
def docked(host: Host) -> Host:
    """A host whose agent is a driver with all names."""
    host.stop("agent", signal.SIGTERM)
    host.env |= {
        "WARREN_DOCKER_SOCKET": f"{host.dir}/warren.sock", "WARREN_DOCKER_NAMES": "sand,dovesnap", "WARREN_DOCKER_SPECS": f"{host.dir}/specs",
        "ENABLE_DOCKER_PLUGIN": "true", "DOCKER_PLUGIN_HTTP_PORT": "19998", "WARREN_DOCKER_ENGINE": "",
    }  # fmt: skip
    host.start("agent")
    return host


def engine(host: Host, name: str) -> Engine:
    transport = httpx.HTTPTransport(uds=f"{host.dir}/{name}.sock")
    return Engine(httpx.Client(base_url="http://plugin", transport=transport, timeout=30, trust_env=False))


@pytest.mark.parametrize("name", ["warren", "sand", "dovesnap"])
@pytest.mark.parametrize("where", ["both", "opt", "ipam-opt"])
def test_a_network_is_named_in_either_set_of_options(docked: Host, name: str, where: str) -> None:
    network_id = docked.network(ip_range="10.9.0.0/24")
    other = docked.network(ip_range="10.9.0.0/24")
    option = {"sand-id": network_id}
    sands = engine(docked, name)
    made = sands.create(option if where != "ipam-opt" else {}, option if where != "opt" else {})
    assert "network" in made, made
    addresses = [sands.container(made) for _ in range(2)]
    assert all(address.startswith("10.9.0.") and address.endswith("/24") for address in addresses)
    again = sands.create(option if where != "ipam-opt" else {}, option if where != "opt" else {})
    assert sands.container(again).startswith("10.9.0.")
    for each in (made, again):
        sands.remove(each)
    assert docked.http.get(f"/networks/{network_id}").status_code == 200  # it belongs to all hosts
    for network in (network_id, other):
        assert docked.http.delete(f"/networks/{network}").status_code == 204


def test_names_that_contradict_each_other_are_refused(docked: Host) -> None:
    one, other = docked.network(ip_range="10.9.0.0/24"), docked.network(ip_range="10.9.0.0/24")
    sands = engine(docked, "sand")
    assert "--ipam-opt" in sands.create({"sand-id": one}, {"sand-id": other})["Err"]
    assert "--subnet" in sands.create({"sand-id": one}, {}, subnet="10.10.0.0/24")["Err"]
    assert "does not exist" in sands.create({"sand-id": "nope"}, {})["Err"]
    assert "does not exist" in sands.create({}, {"sand-id": "nope"})["Error"]
    made = sands.create({"sand-id": one}, {}, subnet="10.9.0.0/24")
    assert [sands.container(made) for _ in range(2)] == ["10.9.0.2/24"] * 2
    sands.remove(made)


def test_without_a_name_sand_refuses_and_the_others_make_a_network(docked: Host) -> None:
    networks = docked.http.get("/networks").json()["networks"]
    assert "sand-id" in engine(docked, "sand").create({}, {})["Err"]
    assert docked.http.get("/networks").json()["networks"] == networks
    for name in ("warren", "dovesnap"):
        made = engine(docked, name).create({}, {})
        assert len(docked.http.get("/networks").json()["networks"]) == len(networks) + 1
        engine(docked, name).remove(made)
    assert docked.http.get("/networks").json()["networks"] == networks


def test_the_file_of_sands_agent_leads_docker_to_its_port(docked: Host) -> None:
    specification = json.loads((docked.dir / "specs" / "sand.json").read_text())
    assert specification == {"Name": "sand", "Addr": "http://127.0.0.1:19998"}
    activated = docked.switch.exec("curl", "-s", "-X", "POST", f"{specification['Addr']}/Plugin.Activate")
    assert json.loads(activated) == {"Implements": ["NetworkDriver", "IpamDriver"]}
    docked.stop("agent", signal.SIGTERM)
    assert not [name for name in ("warren", "sand", "dovesnap") if (docked.dir / f"{name}.sock").exists()]
    docked.start("agent")

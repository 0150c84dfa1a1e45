"""Pure parts of the agent: settings, SAND's field names, states, netlink messages, CONNECT requests, how the CLI finds an agent."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import pytest

from agent.agent import differences
from agent.api.connect import parse
from agent.api.sand import NetworkCreate, endpoint_out, network_out
from agent.config import Tls, load
from agent.docker.listeners import specification
from agent.endpoints.request import EndpointCreate
from agent.feature import Feature
from agent.sockets import inherited_socket
from agent.states import State, States
from agent.status import tunnel_problems, with_names
from agent.trace import follow
from pipeline.tables import Table
from specs.model.endpoint import Endpoint
from specs.model.host import Host
from specs.model.network import Network
from specs.snapshot import Snapshot
from tests.waiting import LIMIT_S
from tools.cli import client as cli_client
from tools.cli.client import Failure, Where, candidates
from warren.errors import Invalid, NotFound, Unavailable
from warren.settings import log_level, reloaded

# ---- settings -----------------------------------------------------------------------------------------------------


def test_sands_variables_are_honoured() -> None:
    config = load(
        {
            "PUBLIC_HOSTNAME": "a", "PUBLIC_IP": "192.0.2.7", "ETCD_HOSTS": "http://x:1,http://y:2", "ETCD_PREFIX": "/sc-net",
            "HTTP_PORT": "9000", "HTTP_TLS_CERT": "c", "HTTP_TLS_KEY": "k", "HTTP_TLS_CA": "a",
        }
    )  # fmt: skip
    assert (config.host, str(config.vtep), config.common.etcd) == ("a", "192.0.2.7", ("http://x:1", "http://y:2"))
    assert (config.common.prefix, config.http, config.api) == ("/sc-net", ("0.0.0.0", 9000), "https://192.0.2.7:9000")
    assert config.http_tls is not None


def test_warrens_variables_win() -> None:
    config = load({"WARREN_HOST": "b", "PUBLIC_HOSTNAME": "a", "WARREN_HTTP": "[fd00::1]:80", "HTTP_PORT": "9000"})
    assert (config.host, config.http, config.api) == ("b", ("fd00::1", 80), "http://[fd00::1]:80")
    assert load({}).http == ("127.0.0.1", 9999)
    assert load({}).api is None  # nobody else could reach it
    assert load({"WARREN_HTTP": "", "WARREN_SOCKET": ""}).http is None
    assert [load({"WARREN_FORWARD": text}).forwards_for_others for text in ("", "warren", "all")] == [False, False, True]


@pytest.mark.parametrize(
    ("name", "value"),
    [("WARREN_VTEP", "x"), ("WARREN_HTTP", "9999"), ("HTTP_PORT", "99999"), ("WARREN_ATTACH_TIMEOUT_S", "soon"),
     ("WARREN_UNDERLAY_MTU", "100"), ("WARREN_TLS_CERT", "only-one"), ("WARREN_FORWARD", "on"), ("WARREN_DOCKER_USER", "yes")],
)  # fmt: skip
def test_a_wrong_setting_is_named(name: str, value: str) -> None:
    with pytest.raises(Invalid) as error:
        load({name: value})
    assert error.value.path.startswith(name[:10])


# ---- SAND's names -------------------------------------------------------------------------------------------------


def test_ranges_and_gateways_as_sand_gives_them() -> None:
    def values(**body: object) -> tuple[str, str]:
        record = NetworkCreate.model_validate(body).values("i")
        return str(record["ip_range"]), str(record["gateway"])

    assert values() == values(ip_range="", gateway="", name="", type="") == ("10.0.0.0/24", "10.0.0.1/24")
    assert values(ip_range="10.8.0.0/16") == ("10.8.0.0/16", "10.8.0.1/16")
    assert values(ip_range="10.8.0.0/16", gateway="10.8.0.9/16") == ("10.8.0.0/16", "10.8.0.9/16")
    assert values(ip_range=None) == values(ipv6_range="fd00::/64") == ("None", "None")


def test_the_path_is_found_nested_and_flat() -> None:
    nested = {"network_id": "n", "activate_params": {"ns_handle_path": "/a", "set_addr": True, "move_veth": True}}
    assert EndpointCreate.model_validate(nested).netns == "/a"
    assert EndpointCreate.model_validate({"network_id": "n", "ns_handle_path": "/b"}).netns == "/b"
    assert EndpointCreate.model_validate({"network_id": "n"}).netns is None


def test_http_answers_have_the_fields_of_sand() -> None:
    network = Network(id="n", name="amber", vxlan_vni=3, ip_range="10.0.0.0/24", created_at="2026-01-01T00:00:00Z")
    host = Host(name="h1", vtep="192.0.2.1", api="https://gw.example:9999")
    endpoint = Endpoint(id="e", network_id="n", host="h1", mac_address="02:00:00:00:00:01", ipv4_address="10.0.0.2", ofport=1)
    assert network_out(network)["gateway"] == network_out(network)["ns_handle_path"] == ""
    shown = endpoint_out(endpoint, {"n": network}, {"h1": host}, {"state": "closed", "reason": "why"})
    assert (shown["target_veth_ip"], shown["host_ip"], shown["api_hostname"]) == ("10.0.0.2/24", "192.0.2.1", "gw.example")
    assert (shown["state"], shown["reason"], shown["target_veth_name"]) == ("closed", "why", "")
    alone = endpoint_out(endpoint, {}, {})
    assert (alone["target_veth_ip"], alone["host_ip"], alone["api_hostname"]) == ("10.0.0.2/32", "", "h1")


# ---- waiting ------------------------------------------------------------------------------------------------------


def test_a_waiter_wants_its_own_revision_and_a_settled_state() -> None:
    states = States()
    states.put("e", State("up", "", 4))
    assert states.wait("e", 4, 0) == State("up", "", 4)
    assert states.wait("e", 5, 0) is None
    results: list[State | None] = []
    waiter = threading.Thread(target=lambda: results.append(states.wait("e", 5, 5)))
    waiter.start()
    states.put("e", State("waiting", "no port", 5))
    states.put("other", State("up", "", 9))
    states.put("e", State("closed", "why", 6))
    waiter.join(LIMIT_S)
    assert results == [State("closed", "why", 6)]


def test_stopping_wakes_all_waiters() -> None:
    states = States()
    results: list[State | None] = []
    waiter = threading.Thread(target=lambda: results.append(states.wait("e", 1, 60)))
    waiter.start()
    states.stop()
    waiter.join(LIMIT_S)
    assert results == [None]


# ---- netlink, CONNECT, the CLI's search -----------------------------------------------------------------------------


def test_the_head_of_connect() -> None:
    head = parse("CONNECT /networks/a%20b?ip=fd00::1&port=80 HTTP/1.1\r\nx-warren-forwarded: 1")
    assert (head.network_id, head.ip, head.port, head.forwarded) == ("a b", "fd00::1", 80, True)
    assert parse("CONNECT /networks/n?port=80&ip=10.0.0.1 HTTP/1.1").forwarded is False
    for target, kind in (("/x", NotFound), ("/networks/n", Invalid), ("/networks/n?ip=10.0.0.1&port=0", Invalid), ("", NotFound)):
        with pytest.raises(kind):
            parse(f"CONNECT {target} HTTP/1.1")


def test_where_the_command_line_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli_client, "LABS", tmp_path)
    assert candidates(Where("http://u"), {"WARREN_URL": "http://v"}) == ["http://u"]
    assert candidates(Where(), {"WARREN_URL": "http://v", "WARREN_LAB": "x"}) == ["http://v"]
    assert candidates(Where(), {}) == ["unix:///run/warren/agent.sock"]
    for path in ("one/h10/agent.sock", "one/h2/agent.sock", "one/lab.json"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    expected = [f"unix://{tmp_path}/one/{h}/agent.sock" for h in ("h2", "h10")]
    assert candidates(Where(), {}) == candidates(Where(None, "one"), {"WARREN_URL": "http://v"}) == expected
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "lab.json").touch()
    with pytest.raises(Failure, match="--lab"):
        candidates(Where(), {})


def test_a_socket_that_systemd_opened_is_found_by_its_name() -> None:
    environ = {"LISTEN_PID": "7", "LISTEN_FDS": "2", "LISTEN_FDNAMES": "api:docker"}
    assert inherited_socket(environ, 8, "docker") is None  # another process's
    assert inherited_socket({}, 7, "docker") is None
    assert inherited_socket(environ, 7, "other") is None
    assert inherited_socket({"LISTEN_PID": "7"}, 7, "docker") is None


def test_the_columns_of_a_trace_are_aligned_whatever_the_table() -> None:
    def trace(host: str, flow: str, enters: str) -> dict[str, object]:
        steps = [{"table": table.name, "matched": "any", "origin": "pipeline/miss", "actions": ["drop"]} for table in Table]
        return {"host": host, "packet": flow, "steps": steps, "to_tunnel": False, "vtep": "", "vni": 1, "delivered_to": ["db"]}

    web, db = (
        Endpoint(id=name, network_id="n", host="h1", mac_address=f"02:00:00:00:00:0{n}", ipv4_address=f"10.0.0.{n}", ofport=n)
        for n, name in ((1, "web"), (2, "db"))
    )
    text = follow(web, db, "tcp", 80, {"h1": "192.0.2.1"}, trace)["text"]
    columns = {line.index("any") for line in text.splitlines() if "pipeline/miss" in line}
    actions = {line.index("drop") for line in text.splitlines() if line.strip() == "drop"}
    assert (len(columns), len(actions)) == (1, 1)


def test_differences_name_the_part_that_cannot_be_compared() -> None:
    class Readable(Feature):
        def differences(self) -> list[str]:
            return ["port wv1: down"]

    class Unreadable(Feature):
        def differences(self) -> list[str]:
            raise Unavailable("nftables", "nft does not run")

    assert differences([Feature(), Readable(), Unreadable()]) == [
        "port wv1: down",
        "Unreadable: cannot be compared: nftables is unavailable: nft does not run",
    ]


def test_problems_have_the_names_of_what_they_are_about() -> None:
    key, other = "347ebe48-0000-4000-8000-000000000001", "347ebe48-0000-4000-8000-000000000002"
    state = Snapshot()
    state.networks[key] = Network.model_construct(id=key, name="amber")
    state.endpoints[other] = Endpoint.model_construct(id=other, name="web", network_id=key)
    text = f"network/{key}: its range; endpoint/{other}: closed; network/{other}: unknown"
    assert with_names(text, state) == f"network/amber: its range; endpoint/amber/web: closed; network/{other}: unknown"


# ---- settings -----------------------------------------------------------------------------------------------------


def test_the_names_of_the_docker_driver() -> None:
    assert not load({}).with_docker
    both = load({"WARREN_DOCKER_SOCKET": "/p/warren.sock", "WARREN_DOCKER_NAMES": "sand, dovesnap,"})
    assert both.docker_sockets == {"warren": "/p/warren.sock", "sand": "/p/sand.sock", "dovesnap": "/p/dovesnap.sock"}
    assert load({"WARREN_DOCKER_NAMES": "sand"}).docker_sockets == {"sand": "/run/docker/plugins/sand.sock"}
    assert [load({"ENABLE_DOCKER_PLUGIN": text}).docker_port for text in ("true", "TRUE", "1", "t", "false", "0", "")] == [
        9998
    ] * 4 + [None] * 3
    for name in ("DOCKER_PLUGIN_HTTP_PORT", "DOCKERPLUGINHTTPPORT"):  # its documentation, and what it really reads
        assert load({"ENABLE_DOCKER_PLUGIN": "true", name: "7777"}).docker_port == 7777
        assert load({name: "7777"}).docker_port is None


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"ENABLE_DOCKER_PLUGIN": "yes"}, "ENABLE_DOCKER_PLUGIN"),
        ({"ENABLE_DOCKER_PLUGIN": "true", "DOCKER_PLUGIN_HTTP_PORT": "http"}, "DOCKER_PLUGIN_HTTP_PORT"),
        ({"ENABLE_DOCKER_PLUGIN": "true", "DOCKERPLUGINHTTPPORT": "70000"}, "DOCKERPLUGINHTTPPORT"),
        ({"WARREN_DOCKER_NAMES": "sand,../x"}, "WARREN_DOCKER_NAMES"),
        ({"WARREN_CONNECT": "all"}, "WARREN_CONNECT"),
        ({"PORT": "http"}, "PORT"),
    ],
)
def test_a_wrong_setting_of_docker_or_sand_is_named(environ: dict[str, str], path: str) -> None:
    with pytest.raises(Invalid) as error:
        load(environ)
    assert error.value.path == path


def test_docker_finds_the_port_of_sands_driver_in_a_file() -> None:
    assert json.loads(specification("sand", "127.0.0.1:9998", None)) == {"Name": "sand", "Addr": "http://127.0.0.1:9998"}
    secured = json.loads(specification("sand", "h1:9998", Tls("c", "k", "a")))
    assert (secured["Addr"], secured["TLSConfig"]["CAFile"]) == ("https://h1:9998", "a")


def test_sands_names_of_settings_as_its_agent_reads_them() -> None:
    config = load(
        {"PEER_HOSTNAME": "p", "PUBLIC_HOSTNAME": "q", "PEER_IP": "192.0.2.7", "PUBLIC_IP": "192.0.2.8", "PORT": "8888"}
    )
    assert (config.host, str(config.vtep), config.http, config.api) == (
        "p",
        "192.0.2.7",
        ("0.0.0.0", 8888),
        "http://192.0.2.7:8888",
    )
    assert load({"HTTP_PORT": "7777", "PORT": "8888"}).http == ("0.0.0.0", 7777)
    named = load({"PUBLIC_IP": "192.0.2.8", "HTTP_PORT": "7777", "API_HOSTNAME": "api.example"})
    assert (named.host, named.api) == (socket.gethostname(), "http://api.example:7777")
    assert (load({"ETCDPREFIX": "/x"}).common.prefix, load({"ETCD_PREFIX": "/y", "ETCDPREFIX": "/x"}).common.prefix) == (
        "/x",
        "/y",
    )
    warrens = load({"WARREN_HOST": "w", "PEER_HOSTNAME": "p", "WARREN_VTEP": "192.0.2.1", "PEER_IP": "192.0.2.7"})
    assert (warrens.host, str(warrens.vtep)) == ("w", "192.0.2.1")


def test_urls_of_etcd_may_lack_scheme_and_port() -> None:
    def urls(text: str, **more: str) -> tuple[str, ...]:
        return load({"ETCD_HOSTS": text, **more}).common.etcd

    assert urls("localhost:2379") == ("http://localhost:2379",)
    assert urls("192.0.2.1, http://h2:1/,[fd00::1]:7") == ("http://192.0.2.1:2379", "http://h2:1", "http://[fd00::1]:7")
    assert urls("https://192.0.2.1:2379,192.0.2.2:2379") == (
        "https://192.0.2.1:2379",
        "https://192.0.2.2:2379",
    )  # as SAND's README has it
    assert urls("192.0.2.1:2379", ETCD_CACERT="ca.pem") == ("https://192.0.2.1:2379",)
    assert load({"ETCD_TLS_CERT": "c", "ETCD_TLS_KEY": "k"}).common.etcd == ("https://127.0.0.1:2379",)
    assert load({"WARREN_ETCD": "http://a:1", "ETCD_HOSTS": "http://b:1"}).common.etcd == ("http://a:1",)


@pytest.mark.parametrize(
    ("environ", "path"),
    [
        ({"ETCD_HOSTS": "ftp://x"}, "ETCD_HOSTS"), ({"ETCD_HOSTS": "http://"}, "ETCD_HOSTS"), ({"ETCD_HOSTS": ","}, "ETCD_HOSTS"),
        ({"ETCD_HOSTS": "h:http"}, "ETCD_HOSTS"), ({"WARREN_ETCD": "http://h:99999"}, "WARREN_ETCD"), ({"WARREN_ETCD": "h/path"}, "WARREN_ETCD"),
        ({"ETCD_TLS_CERT": "c"}, "ETCD_TLS_KEY"), ({"ETCD_TLS_KEY": "k"}, "ETCD_TLS_CERT"), ({"WARREN_ETCD_CERT": "c"}, "WARREN_ETCD_KEY"),
        ({"WARREN_ETCD_KEY": "k", "ETCD_CACERT": "a"}, "WARREN_ETCD_CERT"),
        ({"ETCD_HOSTS": "http://h:1", "ETCD_CACERT": "a"}, "ETCD_HOSTS"),
        ({"ETCD_HOSTS": "https://h:1,http://i:1", "ETCD_TLS_CERT": "c", "ETCD_TLS_KEY": "k"}, "ETCD_HOSTS"),
    ],
)  # fmt: skip
def test_half_a_set_for_etcd_is_refused(environ: dict[str, str], path: str) -> None:
    with pytest.raises(Invalid) as error:
        load(environ)
    assert error.value.path == path


def test_the_level_of_the_log_is_read_from_the_settings_file_again(tmp_path: Path) -> None:
    file = tmp_path / "warren.env"
    environ = {"WARREN_LOG": "warning", "WARREN_SETTINGS": str(file)}
    assert (log_level(environ), log_level(reloaded(environ)), log_level({})) == ("WARNING", "WARNING", "INFO")
    file.write_text('# settings\n; of a host\n\nWARREN_VTEP=192.0.2.1\nWARREN_LOG="debug"\n')
    assert (log_level(environ), log_level(reloaded(environ))) == ("WARNING", "DEBUG")
    with pytest.raises(Invalid, match="WARREN_LOG"):
        log_level({"WARREN_LOG": "loud"})


def test_a_tunnel_that_is_broken_is_named_with_its_profile() -> None:
    """A controller of an older version reports no profiles."""
    assert tunnel_problems({"known": 1, "broken": {}}) == []
    older = tunnel_problems({"known": 2, "broken": {"h2": "down"}})
    assert older == ["tunnel to h2: no probe comes back (its underlay, its switch, or UDP port 4789 between the two)"]
    profiles = {"h2": {"default": "down", "shop": "mtu"}, "h3": {"shop": "down", "other": "unheard of"}}
    lines = tunnel_problems({"known": 2, "broken": {"h2": "down", "h3": "down"}, "profiles": profiles})
    assert lines[0] == older[0]
    assert lines[1].startswith("tunnel to h2 by profile shop: small packets come back")
    assert (
        lines[2]
        == "tunnel to h3 by profile shop: no probe comes back (its underlay, its switch, or the UDP port of shop between the two)"
    )
    assert len(lines) == 3

"""CNI messages: results in every version, wrong requests, and the plugin's part that needs no agent."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tools.cni.plugin as plugin
from agent.cache import CacheView
from agent.cni import messages
from agent.cni.attachments import Attachments, code_of
from agent.cni.messages import CniCall, endpoint_id, expected, read, result
from agent.endpoints.request import EndpointCreate
from specs.model.network import Network
from tests.depth import short_texts
from tests.waiting import LIMIT_S
from warren.errors import Invalid, NotFound

GOLDEN = Path(__file__).parent.parent / "golden"
PLUGIN = Path(plugin.__file__)
NETNS = "/run/netns/c1"
ENVIRONMENT = {"CNI_CONTAINERID": "c1", "CNI_NETNS": NETNS, "CNI_IFNAME": "eth0", "CNI_PATH": "/opt/cni/bin"}
CONFIG = {"cniVersion": "1.1.0", "name": "amber", "type": "warren"}
PREVIOUS = {
    "interfaces": [{"name": "br0"}, {"name": "lo9", "mac": "02:00:00:00:00:09", "sandbox": NETNS}],
    "ips": [{"address": "192.0.2.7/24", "interface": 1}],
    "routes": [{"dst": "198.51.100.0/24"}],
    "dns": {"nameservers": ["192.0.2.1"]},
}


def call(command: str = "ADD", environment: dict[str, str] | None = None, **config: Any) -> CniCall:
    return CniCall(environment={"CNI_COMMAND": command, **ENVIRONMENT, **(environment or {})}, config={**CONFIG, **config})


def shown(version: str, **more: Any) -> dict[str, Any]:
    request = read(call(cniVersion=version, **more))
    interfaces = (
        {"name": "wv0123456789ab", "mac": "fe:00:00:00:00:01", "mtu": 1446},
        {"name": "eth0", "mac": "02:57:0a:00:00:02", "mtu": 1446, "sandbox": NETNS},
    )
    addresses = (("10.0.0.2/24", "10.0.0.1"), ("fd00::2/64", None))
    return result(request, interfaces, addresses, ["10.0.0.1"], {"nameservers": ["192.0.2.53"], "domain": "example.org"})


@pytest.mark.parametrize("version", messages.VERSIONS)
@pytest.mark.parametrize("chained", [False, True], ids=["alone", "chained"])
def test_results(version: str, chained: bool, update_golden: bool) -> None:
    """As each version of the specification has them: `version` in addresses before 1.0.0, `mtu` of interfaces from 1.1.0 on."""
    text = json.dumps(shown(version, **({"prevResult": PREVIOUS} if chained else {})), indent=2) + "\n"
    golden = GOLDEN / f"cni-{version}{'-chained' if chained else ''}.json"
    if update_golden:
        golden.write_text(text)
    assert text == golden.read_text()


def test_a_result_that_has_nothing() -> None:
    """A network of MACs alone: the lists that the specification requires are there and empty."""
    assert result(read(call()), (), (), (), {}) == {"cniVersion": "1.1.0", "interfaces": [], "ips": []}


def test_what_a_result_says_of_its_interface() -> None:
    """CHECK reads it again, among what others have added."""
    assert expected(shown("1.1.0", prevResult=PREVIOUS), "eth0") == (
        "02:57:0a:00:00:02",
        ["10.0.0.2/24", "fd00::2/64"],
        ["10.0.0.1"],
    )
    assert expected(PREVIOUS, "eth0") == (None, [], [])


def test_an_attachments_id() -> None:
    """Three names and the host; no two of them give what other two give; fit for a record."""
    ids = [
        endpoint_id(*names)
        for names in (("h1", "a", "b", "c"), ("h1", "ab", "", "c"), ("h2", "a", "b", "c"), ("h1", "a", "b", "d"))
    ]
    assert len(set(ids)) == 4
    assert endpoint_id("h1", "a", "b", "c") == ids[0]
    assert EndpointCreate(network_id="n", id=ids[0]).id == ids[0]


def fields(environment: dict[str, str] | None = None, **config: Any) -> dict[str, Any]:
    return dict(read(call(environment=environment, **config)).fields)


def test_what_a_configuration_asks_for() -> None:
    values = fields(
        labels={"role": "web"},
        acls=["wall"],
        args={"cni": {"labels": [{"key": "app", "value": "shop"}]}, "others": 7},
        runtimeConfig={"mac": "02-00-00-00-00-AA", "ips": ["10.0.0.5/24", "fd00::5"], "aliases": {"amber": ["x"]}},
        unknown={"key": 1},
    )
    assert values == {
        "aliases": ("x",), "labels": {"role": "web", "app": "shop"}, "acls": ("wall",), "mac_address": "02:00:00:00:00:aa",
        "ipv4_address": "10.0.0.5", "ipv6_address": "fd00::5",
    }  # fmt: skip
    assert fields() == {"labels": {}}
    assert fields(runtimeConfig={"portMappings": None, "ips": None, "mac": ""}) == {"labels": {}}


def test_the_address_comes_from_the_most_specific_source() -> None:
    outer = {"CNI_ARGS": "IgnoreUnknown=1;IP=10.0.0.7;MAC=02:00:00:00:00:07;K8S_POD_UID=x"}
    args = {"cni": {"ips": ["10.0.0.6"]}}
    assert fields(outer)["ipv4_address"] == "10.0.0.7"
    assert fields(outer)["mac_address"] == "02:00:00:00:00:07"
    assert fields(outer, args=args)["ipv4_address"] == "10.0.0.6"
    nearby = {"ips": ["10.0.0.4"], "mac": "02:00:00:00:00:04"}
    assert (fields(**nearby)["ipv4_address"], fields(**nearby)["mac_address"]) == ("10.0.0.4", "02:00:00:00:00:04")
    assert fields(outer, **nearby)["ipv4_address"] == "10.0.0.7"
    assert fields(outer, args={"cni": {"mac": "02:00:00:00:00:06"}}, **nearby)["mac_address"] == "02:00:00:00:00:06"
    near = fields(outer, args=args, runtimeConfig={"ips": ["10.0.0.5"], "mac": "02:00:00:00:00:05"})
    assert (near["ipv4_address"], near["mac_address"]) == ("10.0.0.5", "02:00:00:00:00:05")


def test_ports() -> None:
    """Each once, though runtimes say both families; any address is no address."""
    ways = [{"hostPort": 8080, "containerPort": 80, "protocol": "TCP", "hostIP": ip} for ip in ("0.0.0.0", "::", "")]
    ways += [{"hostPort": 53, "containerPort": 53, "protocol": "udp", "hostIP": "192.0.2.9"}]
    published = fields(runtimeConfig={"portMappings": ways})["publish"]
    assert [way.model_dump(mode="json", exclude_none=True) for way in published] == [
        {"host_port": 8080, "port": 80, "proto": "tcp"},
        {"host_port": 53, "port": 53, "proto": "udp", "host_ip": "192.0.2.9"},
    ]


def test_aliases_come_as_a_list_or_for_each_network() -> None:
    """The conventions have a list, podman a mapping; the runtime's win over the configuration's."""
    for names in (["db", "db"], {"amber": ["db"], "other": ["x"]}, "db"):
        assert fields(aliases=names)["aliases"] == ("db",)
        assert fields(aliases=["far"], runtimeConfig={"aliases": names})["aliases"] == ("db",)
    for names in (None, [], {}, {"other": ["x"]}, {"amber": None}):
        assert "aliases" not in fields(runtimeConfig={"aliases": names})


def test_the_containers_resolver_gets_what_the_call_says() -> None:
    """The configuration's `dns`, over it the runtime's, which calls two of the keys otherwise; the network's where they say nothing."""
    offered = {"nameservers": ["192.0.2.53"], "domain": "example.org"}
    config = {"nameservers": ["192.0.2.1", "fd00::1"], "domain": "a.example", "search": ["b.example"], "options": ["ndots:2"]}
    runtime = {"servers": ["192.0.2.2"], "searches": ["c.example"], "options": None}
    for more, dns in (
        ({}, offered),
        ({"dns": None, "runtimeConfig": {"dns": None}}, offered),
        ({"dns": config}, config),
        ({"dns": {"search": ["b.example"]}}, offered | {"search": ["b.example"]}),
        ({"runtimeConfig": {"dns": runtime}}, offered | {"nameservers": ["192.0.2.2"], "search": ["c.example"]}),
        ({"dns": config, "runtimeConfig": {"dns": runtime}}, config | {"nameservers": ["192.0.2.2"], "search": ["c.example"]}),
    ):
        assert shown("1.1.0", **more)["dns"] == dns


@pytest.mark.parametrize(
    ("mode", "config", "message"),
    [
        ("nat", {}, None),
        ("nat", {"mtu": 1446, "runtimeConfig": {"mtu": 1446}, "ipMasq": True}, None),
        ("flat", {"mtu": 0, "ipMasq": False}, None),
        ("nat", {"runtimeConfig": {"bandwidth": {"ingressRate": 0, "egressRate": 0}, "ipRanges": [], "deviceID": ""}, "ipam": {}}, None),
        ("nat", {"mtu": 1400}, "mtu: 1400: expected nothing or 1446, the MTU of all endpoints of network amber"),
        ("nat", {"mtu": 9000}, "mtu: 9000: expected nothing or 1446"),
        ("nat", {"mtu": 1446, "runtimeConfig": {"mtu": 1200}}, "runtimeConfig.mtu: 1200: expected nothing or 1446"),
        ("nat", {"ipMasq": False}, "ipMasq: false: expected nothing or true: network amber is in mode nat"),
        ("routed", {"ipMasq": True}, "ipMasq: true: expected nothing or false: network amber is in mode routed"),
        ("flat", {"portMappings": [{"hostPort": 1, "containerPort": 2}]}, "portMappings: '1': expected a network in mode nat"),
        ("routed", {"runtimeConfig": {"portMappings": [{"hostPort": 1, "containerPort": 2}]}}, "runtimeConfig.portMappings: '1'"),
    ],
)  # fmt: skip
def test_what_a_call_demands_of_its_network(mode: str, config: dict[str, Any], message: str | None) -> None:
    """What Warren does otherwise than the configuration says is refused, not ignored."""
    network = Network(
        id="n1", name="amber", vxlan_vni=7, mode=mode, ip_range="10.0.0.0/24", gateway=None if mode == "flat" else "10.0.0.1/24"
    )
    demands = read(call(**config)).demands
    if message is None:
        demands.check(network, 1446)
        return
    with pytest.raises(Invalid) as caught:
        demands.check(network, 1446)
    assert message in str(caught.value)
    assert code_of(caught.value) == 7


def test_an_endpoints_name_follows_the_container() -> None:
    """As podman says it, if an endpoint may be called so."""
    for pod_name, endpoint_name in (("web-1", "web-1"), ("", None), ("a b", None), ("x" * 64, None)):
        assert read(call(environment={"CNI_ARGS": f"K8S_POD_NAME={pod_name}"})).endpoint_name == endpoint_name


@pytest.mark.parametrize(
    ("wrong", "code", "message"),
    [
        (call("EAT"), 4, "CNI_COMMAND: 'EAT': expected one of ADD, DEL, CHECK, STATUS, GC, VERSION"),
        (call(environment={"CNI_CONTAINERID": ""}), 4, "CNI_CONTAINERID is missing: the runtime must set it"),
        (call(environment={"CNI_CONTAINERID": "../x"}), 4, "CNI_CONTAINERID: '../x': expected letters"),
        (call(environment={"CNI_IFNAME": "a/b"}), 4, "CNI_IFNAME: 'a/b': expected an interface name"),
        (call(environment={"CNI_NETNS": ""}), 4, "CNI_NETNS is missing"),
        (call(environment={"CNI_ARGS": "IP=ten"}), 4, "CNI_ARGS.IP: 'ten': expected an address"),
        (call(environment={"CNI_ARGS": "MAC=01:00:00:00:00:01"}), 4, "CNI_ARGS.MAC: '01:00:00:00:00:01': expected a unicast MAC"),
        (call(cniVersion="0.2.0"), 1, "cniVersion: '0.2.0': expected one of 0.3.0"),
        (call(cniVersion=1.0), 1, "cniVersion: 1.0: expected"),
        (call("CHECK", cniVersion="0.3.1"), 1, "expected 0.4.0 or later: CHECK"),
        (call("GC", cniVersion="1.0.0"), 1, "expected 1.1.0 or later: GC"),
        (call("STATUS", cniVersion="1.0.0"), 1, "expected 1.1.0 or later: STATUS"),
        (call(name="-amber"), 7, "name: '-amber': expected letters"),
        (call(name=None), 7, "name: null"),
        (call(network="a b"), 7, "network: 'a b': expected a name"),
        (call(acls="a b"), 7, "acls[0]: 'a b'"),
        (call(labels={"a": 1}), 7, "labels.a: 1"),
        (call(labels="web"), 7, "labels: 'web'"),
        (call(args={"cni": {"labels": {"a": "b"}}}), 7, "args.cni.labels"),
        (call(args={"cni": {"ips": ["x"]}}), 7, "args.cni.ips[0]: 'x': expected an address"),
        (call(runtimeConfig={"mac": "x"}), 7, "runtimeConfig.mac: 'x': expected a MAC address"),
        (call(runtimeConfig={"ips": ["10.0.0.1", "10.0.0.2"]}), 7, "runtimeConfig.ips: '10.0.0.1, 10.0.0.2': expected at most one"),
        (call(runtimeConfig={"portMappings": [{"hostPort": 0, "containerPort": 1}]}), 7, "runtimeConfig.portMappings[0].hostPort: 0"),
        (call(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "ip"}]}), 7, "protocol: 'ip'"),
        (call(runtimeConfig={"portMappings": [{"hostPort": 1, "containerPort": 1, "hostIP": "x"}]}), 7, "hostIP: 'x'"),
        (call(portMappings="80"), 7, "portMappings: '80': expected a list"),
        (call(portMappings=[{"hostPort": 1, "containerPort": 70000}]), 7, "portMappings[0].containerPort: 70000"),
        (call(mac="x"), 7, "mac: 'x': expected a MAC address"),
        (call(ips=["10.0.0.300"]), 7, "ips[0]: '10.0.0.300': expected an address"),
        (call(args={"cni": {"mac": "ff:ff:ff:ff:ff:ff"}}), 7, "args.cni.mac"),
        (call(mtu="big"), 7, "mtu: 'big'"),
        (call(mtu=100), 7, "mtu: 100: expected at least 576"),
        (call(runtimeConfig={"mtu": -1}), 7, "runtimeConfig.mtu: -1"),
        (call(aliases=["a b"]), 7, "aliases[0]: 'a b': expected a name"),
        (call(aliases=7), 7, "aliases: 7: expected a list"),
        (call(runtimeConfig={"aliases": {"amber": ["ok", "-"]}}), 7, "runtimeConfig.aliases.amber[1]: '-'"),
        (call(dns={"nameservers": ["x"]}), 7, "dns.nameservers[0]: 'x': expected an address"),
        (call(dns=["192.0.2.1"]), 7, "dns: ["),
        (call(dns={"domain": "a b"}), 7, "dns.domain: 'a b'"),
        (call(runtimeConfig={"dns": {"servers": "192.0.2.1"}}), 7, "runtimeConfig.dns.servers: '192.0.2.1': expected a list"),
        (call(runtimeConfig={"dns": {"searches": ["a", ""]}}), 7, "runtimeConfig.dns.searches[1]: ''"),
        (call(runtimeConfig={"dns": {"options": [1]}}), 7, "runtimeConfig.dns.options[0]: 1"),
        (call(runtimeConfig={"bandwidth": {"ingressRate": 1000}}), 7, "runtimeConfig.bandwidth"),
        (call(bandwidth={"egressBurst": 1}), 7, "bandwidth: {"),
        (call(bandwidth="fast"), 7, "bandwidth: 'fast': expected nothing: Warren limits rates by a rule's meter"),
        (call(runtimeConfig={"ipRanges": [[{"subnet": "10.9.0.0/24"}]]}), 7, "runtimeConfig.ipRanges"),
        (call(runtimeConfig={"infinibandGUID": "c2:11"}), 7, "runtimeConfig.infinibandGUID"),
        (call(runtimeConfig={"deviceID": "0000:04:00.5"}), 7, "runtimeConfig.deviceID"),
        (call(ipam={"type": "host-local"}), 7, "ipam: {"),
        (call(ipMasq="maybe"), 7, "ipMasq: 'maybe'"),
        (call(prevResult=[1]), 7, "prevResult: [1]: expected the result of ADD"),
        (call(prevResult={"ips": {}, "interfaces": 7}), 7, "prevResult.interfaces: 7: expected a list"),
        (call("CHECK"), 7, "prevResult is missing: the result of ADD"),
        (call("GC"), 7, "cni.dev/valid-attachments is missing: say which attachments stay"),
        (call("GC", **{"cni.dev/valid-attachments": [{"ifname": "eth0"}]}), 7, "cni.dev/valid-attachments[0].containerID"),
        (CniCall(environment={"CNI_COMMAND": "ADD", **ENVIRONMENT}, config=[]), 7, "network configuration: []: expected a JSON object"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_wrong_configurations_are_refused_with_their_path(wrong: CniCall, code: int, message: str) -> None:
    with pytest.raises(Invalid) as caught:
        read(wrong)
    assert (code_of(caught.value), message in str(caught.value)) == (code, True), str(caught.value)
    assert "\n" not in str(caught.value)


def test_gc_reads_the_attachments_that_stay_under_both_names() -> None:
    listed = [{"containerID": "c1", "ifname": "eth0", "more": 1}]
    assert read(call("GC", **{"cni.dev/valid-attachments": listed})).valid == (("c1", "eth0"),)
    assert read(call("GC", **{"cni.dev/attachments": listed})).valid == (("c1", "eth0"),)
    assert read(call("GC", **{"cni.dev/valid-attachments": None})).valid == ()


def test_del_ignores_mistakes_elsewhere_in_the_configuration() -> None:
    """What is wrong elsewhere in the configuration must not keep DEL from its work; nor a namespace that is not said."""
    request = read(call("DEL", environment={"CNI_NETNS": "", "CNI_ARGS": "IP=ten"}, labels=7, prevResult=9))
    assert (request.container, request.interface, request.fields) == ("c1", "eth0", {})


SCALARS = st.sampled_from([None, True, False, 0, -1, 7, 2**70, "", "eth0", "10.0.0.9/24", "0.4.0"]) | short_texts
FLAT = SCALARS | st.lists(SCALARS, max_size=3) | st.dictionaries(short_texts, SCALARS, max_size=3)
JSON = (
    FLAT
    | st.lists(FLAT, max_size=2)
    | st.dictionaries(
        st.sampled_from(["mac", "ips", "cni", "key", "value", "dns", "aliases", "mtu", "servers", "nameservers", "hostPort"]),
        FLAT,
        max_size=2,
    )
)
KEYS = st.sampled_from(
    ["cniVersion", "name", "network", "acls", "labels", "args", "runtimeConfig", "cni.dev/valid-attachments"]
    + ["mac", "ips", "mtu", "dns", "aliases", "portMappings", "bandwidth", "ipMasq", "ipam"]
)


def rows(*names: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.dictionaries(st.sampled_from(names), JSON | st.just("eth0") | st.just(0)), max_size=2)


RESULTS = st.fixed_dictionaries(
    {}, optional={"interfaces": rows("name", "mac", "sandbox"), "ips": rows("address", "interface"), "routes": rows("dst", "gw")}
)


def code_for(**config: Any) -> int:
    """The error code for a configuration; 0 when it is valid."""
    command = config.pop("command")
    try:
        request = read(call(command, **config))
        if request.previous is not None:
            expected(request.previous, "eth0")
            result(request, (), (), (), {})
    except Invalid as error:
        return code_of(error)
    return 0


@given(st.sampled_from(messages.COMMANDS), st.dictionaries(KEYS, JSON, max_size=4))
def test_any_configuration_is_accepted_or_refused_with_a_cni_error(command: str, config: dict[str, Any]) -> None:
    """Never another error than one that says where."""
    assert code_for(command=command, **config) in (0, 1, 7)


@given(st.sampled_from(["ADD", "CHECK"]), RESULTS)
def test_any_previous_result_is_accepted_or_refused_with_a_cni_error(command: str, previous: dict[str, Any]) -> None:
    assert code_for(command=command, prevResult=previous) in (0, 7)


def test_a_del_waits_for_the_running_add_of_the_same_attachment() -> None:
    """A runtime that has given up an ADD calls DEL while the agent is still at it: it must not find nothing, and the ADD then make it."""
    looked_up, go_on, done = threading.Event(), threading.Event(), []

    def network(ref: str) -> Any:
        looked_up.set()
        go_on.wait(timeout=LIMIT_S)
        done.append("ADD")
        raise NotFound("network", ref)

    read_all = threading.Event()
    read_all.set()
    cache = SimpleNamespace(synced=read_all, view=CacheView())
    core = SimpleNamespace(host=SimpleNamespace(name="h1"), cache=cache, lookup=SimpleNamespace(network=network))
    attachments = Attachments(core, suspects=set, differences=lambda endpoint_id: ())  # type: ignore[arg-type]
    with ThreadPoolExecutor() as pool:
        adding = pool.submit(attachments.do, read(call()))
        assert looked_up.wait(timeout=LIMIT_S)
        other = pool.submit(attachments.do, read(call("DEL", environment={"CNI_IFNAME": "eth1"})))
        assert other.result(LIMIT_S) is None  # another's DEL waits for nobody
        deleting = pool.submit(lambda: (attachments.do(read(call("DEL"))), done.append("DEL")))
        assert not wait([deleting], timeout=0.2).done
        go_on.set()
        deleting.result(LIMIT_S)
        with pytest.raises(Invalid, match="name: 'amber'"):
            adding.result(LIMIT_S)
    assert done == ["ADD", "DEL"]


# ---- the program -------------------------------------------------------------------------------------------------------


def run(command: str | None, text: str = "", *words: str, **environment: str) -> tuple[int, Any]:
    """The plugin as a runtime starts it; Python's own library is all that it has."""
    variables = {"PATH": os.environ["PATH"], **environment, **({"CNI_COMMAND": command} if command else {})}
    done = subprocess.run(
        [sys.executable, "-I", PLUGIN, *words],
        input=text,
        env=variables,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, json.loads(done.stdout) if command else done.stdout


ANSWER = {"supportedVersions": list(messages.VERSIONS)}


def test_versions() -> None:
    """VERSION fails for no configuration: a runtime that probes may send none, or what it has."""
    for text, version in (
        ('{"cniVersion": "0.3.1"}', "0.3.1"),
        ("", "1.1.0"),
        ("[]", "1.1.0"),
        ("{", "1.1.0"),
        ("[" * 99999, "1.1.0"),
    ):
        assert run("VERSION", text) == (0, {"cniVersion": version, **ANSWER})


def test_without_an_environment_it_answers_as_to_version() -> None:
    """A probe gets the versions on standard output, a person the help on standard error. Nothing is read."""
    started = [sys.executable, "-I", str(PLUGIN)]
    reader, writer = os.pipe()  # nobody closes the other end
    try:
        done = subprocess.run(started, stdin=reader, env={}, capture_output=True, text=True, check=False, timeout=LIMIT_S)
    finally:
        os.close(reader)
        os.close(writer)
    assert (done.returncode, json.loads(done.stdout)) == (0, {"cniVersion": "1.1.0", **ANSWER})
    assert "CNI_COMMAND=ADD" in done.stderr
    status, text = run(None, "", "--help")
    assert (status, "CNI_COMMAND=ADD" in text) == (0, True)


def test_standard_input_that_is_closed() -> None:
    shell = ["sh", "-c", f'exec "{sys.executable}" -I "{PLUGIN}" <&-']
    for command, code in (("VERSION", 0), ("ADD", 1)):
        environment = {"PATH": os.environ["PATH"], "CNI_COMMAND": command}
        done = subprocess.run(shell, env=environment, capture_output=True, text=True, check=False, timeout=LIMIT_S)
        assert (done.returncode, done.stderr) == (code, "")
        assert json.loads(done.stdout).get("code") == (5 if code else None)


@pytest.mark.parametrize(
    ("command", "text", "code", "message"),
    [
        ("ADD", "{", 6, "not JSON"),
        ("ADD", "", 6, "not JSON"),
        ("ADD", "[" * 99999, 6, "not JSON"),
        ("ADD", "\udcff", 6, "not JSON"),
        ("ADD", '{"socket": 7}', 7, "socket: 7: expected the path"),
        ("ADD", '{"socket": "/nowhere/agent.sock"}', 11, "does not listen on /nowhere/agent.sock"),
        ("STATUS", '{"socket": "/nowhere/agent.sock"}', 50, "does not listen on /nowhere/agent.sock"),
    ],
)
def test_the_plugins_own_errors(command: str, text: str, code: int, message: str) -> None:
    status, error = run(command, text)
    assert (status, error["code"], message in error["msg"]) == (1, code, True), error
    assert set(error) - {"details"} == {"cniVersion", "code", "msg"}


def test_the_plugin_imports_only_the_standard_library() -> None:
    """It is started twice for every container. What else it needed would have to be installed beside it."""
    nodes = ast.walk(ast.parse(PLUGIN.read_text()))
    imported = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    assert imported == {"json", "os", "socket", "sys"}


def test_both_sides_know_the_same_versions() -> None:
    assert list(plugin.VERSIONS) == list(messages.VERSIONS)

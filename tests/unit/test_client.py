"""The public client against a server of canned answers: what it sends, what it makes of answers, and which agent it takes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import warren.errors
from tests.agent.test_tls import certificates
from tests.programs import program
from warren.client import (
    AgentUnreachable,
    AsyncClient,
    Client,
    Conflict,
    Error,
    Exhausted,
    Host,
    Invalid,
    LeaseExpired,
    NoAnswer,
    NotFound,
    PublishedPort,
    Refused,
    Status,
    Unavailable,
    errors,
    operations,
    tls_context,
)
from warren.client.results import Endpoint, Network

NETWORK = {"id": "n1", "name": "amber", "vxlan_vni": 7, "ip_range": "10.0.0.0/24", "default_acl": ["web"], "labels": {"a": "b"}}
ENDPOINT = {"id": "e1", "name": "web", "network_id": "n1", "hostname": "h1", "target_veth_ip": "10.0.0.2/24", "publish": []}


class Server:
    """An HTTP server with canned answers: (method, path with query) to (status, JSON). Everything else is not found, as with SAND."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self.answers: dict[tuple[str, str], tuple[int, Any]] = {}
        self.requests: list[tuple[str, str, Any]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = json.loads(self.rfile.read(length)) if length else None
                outer.requests.append((self.command, self.path, body))
                status, data = outer.answers.get((self.command, self.path), (404, None))
                raw = b"404 page not found" if data is None else b"" if status == 204 else json.dumps(data).encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain" if data is None else "application/json")
                self.send_header("Content-Length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_DELETE = handle_any

            def do_CONNECT(self) -> None:
                outer.requests.append((self.command, self.path, None))
                if (self.command, self.path) in outer.answers:
                    self.handle_any()
                    return
                self.wfile.write(b"HTTP/1.1 200 OK\r\n\r\nhello")  # the network speaks at once
                while data := self.connection.recv(100):
                    self.connection.sendall(data.upper())
                self.close_connection = True

            def handle(self) -> None:
                with contextlib.suppress(OSError):  # connections that are reset, TLS without a certificate
                    super().handle()

            def log_message(self, *_: object) -> None:
                """Nothing is printed."""

        self._http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._http.daemon_threads = True
        if tls is not None:
            self._http.socket = tls.wrap_socket(self._http.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._http.server_port}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with closing(Server()) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.url) as client:
        yield client


def closed_port() -> str:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{listener.getsockname()[1]}"


def test_answers_become_typed_results(server: Server, client: Client) -> None:
    server.answers["GET", "/networks"] = 200, {"networks": [NETWORK]}
    (network,) = client.networks()
    assert (network.name, network.vxlan_vni, network.default_acl, network.labels) == ("amber", 7, ("web",), {"a": "b"})
    assert network.raw == NETWORK
    server.answers["GET", "/endpoints?network_id=amber&states=true"] = 200, {"endpoints": [ENDPOINT]}
    (endpoint,) = client.endpoints("amber", states=True)
    assert (endpoint.host, endpoint.ipv4) == ("h1", "10.0.0.2/24")


def test_fields_that_are_absent_or_null_have_their_defaults() -> None:
    assert Network.of({"id": "n", "mode": None}) == Network(id="n")
    assert Endpoint.of({"hostname": None}) == Endpoint()
    assert Status.of({"hosts": [{"name": "h1"}]}).hosts[0].tunnels.known == 0
    assert Network.of(None) == Network()


def test_a_host_of_a_cloud_tells_its_site_and_outside_address() -> None:
    data = {"name": "c1", "underlay": "cloud", "site": "aws.x", "outside": {"address": "10.4.1.5", "public": "198.51.100.5"}}
    host = Host.of(data)
    assert (host.underlay, host.site) == ("cloud", "aws.x")
    assert host.outside["public"] == "198.51.100.5"
    assert (Host.of({"name": "h1"}).underlay, Host.of({"name": "h1"}).outside) == (None, {})


def test_late_hosts_are_alive_and_behind() -> None:
    hosts = [{"name": "a", "controller": "alive"}, {"name": "b", "controller": "alive", "current": True}, {"name": "c"}]
    assert Status.of({"hosts": hosts}).late == ("a",)


@pytest.mark.parametrize("name", ["", ".", "..", "../endpoints/web", "amber/web/x"])
@pytest.mark.parametrize(
    "call",
    [
        Client.network, Client.delete_network, Client.host, Client.flows, Client.check, Client.acl, Client.delete_acl, Client.router,
        Client.delete_router, Client.service, Client.delete_service, Client.delete_mirror,
    ],
    ids=lambda call: call.__name__,
)  # fmt: skip
def test_a_name_that_would_lead_to_another_object_is_not_sent(
    server: Server, client: Client, call: Callable[..., Any], name: str
) -> None:
    with pytest.raises(Invalid) as error:
        getattr(client, call.__name__)(name)
    assert error.value.path == "name"
    assert server.requests == []


@pytest.mark.parametrize("ref", ["", "..", "../networks", "amber/", "/web", "amber/.."])
def test_a_reference_to_no_endpoint_is_not_sent(server: Server, client: Client, ref: str) -> None:
    for call in (client.endpoint, client.delete_endpoint):
        with pytest.raises(Invalid):
            call(ref)
    assert server.requests == []


def test_names_are_quoted(server: Server, client: Client) -> None:
    server.answers["GET", "/networks/a%3Fb%20%23%25"] = 200, {"network": NETWORK}
    server.answers["GET", "/endpoints/amber/w%3Feb"] = 200, {"endpoint": ENDPOINT}
    assert client.network("a?b #%").name == "amber"
    assert client.endpoint("amber/w?eb").name == "web"


def test_an_empty_text_is_no_value(server: Server, client: Client) -> None:
    for call in (
        lambda: client.create_network(""),
        lambda: client.create_network("x", mode=""),
        lambda: client.endpoints(host=""),
    ):
        with pytest.raises(Invalid, match="is empty"):
            call()
    assert server.requests == []


def test_only_what_was_stated_is_sent(server: Server, client: Client) -> None:
    server.answers["POST", "/networks"] = 201, {"network": NETWORK}
    client.create_network("amber", mode="nat", default_acl=("web",))
    assert server.requests[-1] == ("POST", "/networks", {"name": "amber", "mode": "nat", "default_acl": ["web"]})


def test_publishing_keeps_the_other_ports(server: Server, client: Client) -> None:
    old = {"host_port": 53, "port": 53, "proto": "udp"}
    server.answers["GET", "/endpoints/web"] = 200, {"endpoint": ENDPOINT | {"publish": [old]}}
    server.answers["POST", "/apply"] = 200, {"changes": [], "late": []}
    client.publish("web", PublishedPort(host_port=8080, port=80))
    sent = json.loads(server.requests[-1][2]["document"])["endpoints"][0]["publish"]
    assert sent == [old, {"host_port": 8080, "port": 80, "proto": "tcp"}]
    client.unpublish("web", PublishedPort(host_port=53, port=53, proto="udp"))
    assert json.loads(server.requests[-1][2]["document"])["endpoints"][0]["publish"] == []
    with pytest.raises(NotFound):
        client.unpublish("web", PublishedPort(host_port=1, port=1))


def test_a_wrong_published_port_is_refused_without_the_document_that_carries_it(server: Server, client: Client) -> None:
    path = "line 1: endpoints[0].publish.0.host_port"
    detail = {"kind": "invalid", "path": path, "value": "0", "expected": "a port from 1 to 65535"}
    server.answers["GET", "/endpoints/web"] = 200, {"endpoint": ENDPOINT}
    server.answers["POST", "/apply"] = 400, {"error": f"{path}: 0: expected a port from 1 to 65535", "detail": detail}
    with pytest.raises(Invalid, match="^host_port: 0: expected a port from 1 to 65535$") as error:
        client.publish("web", PublishedPort(host_port=0, port=80))
    assert error.value.path == "host_port"


def leaves(error_class: type[Exception]) -> list[type[Exception]]:
    return [error_class, *(leaf for child in error_class.__subclasses__() for leaf in leaves(child))]


@pytest.mark.parametrize(
    "error",
    [
        warren.errors.Invalid("ip_range", "x", "a range"),
        warren.errors.Invalid("ip_range", warren.errors.MISSING, "mode nat needs it"),
        warren.errors.NotFound("network", "amber"),
        warren.errors.Conflict("the name is taken", field="name", holder="n2"),
        warren.errors.Exhausted("no address is free", field="ipv4_address"),
        warren.errors.Unavailable("etcd", "timed out"),
        warren.errors.LeaseExpired("etcd", "it has ended the lease"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_agents_errors_arrive_with_their_fields(server: Server, client: Client, error: warren.errors.WarrenError) -> None:
    server.answers["GET", "/hosts"] = error.http_status, {"error": str(error), "detail": error.fields()}
    with pytest.raises(Refused) as refusal:
        client.hosts()
    received = refusal.value
    assert type(received).__name__ == type(error).__name__
    assert (str(received), received.status, received.kind) == (str(error), error.http_status, error.kind)
    for field, value in error.fields().items():
        assert getattr(received, field) == value


def test_every_error_of_the_agents_has_an_exception_of_the_client() -> None:
    kinds = {error_class.kind for error_class in leaves(warren.errors.WarrenError) if error_class.__module__ == "warren.errors"}  # type: ignore[attr-defined]
    assert kinds - {"error"} == set(errors._BY_KIND)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (400, {"error": "bad range"}, Invalid), (404, {"error": "gone"}, NotFound), (404, None, NotFound), (409, {"error": "x"}, Conflict),
        (503, ["?"], Unavailable), (500, {"error": {"a": 1}}, Refused), (502, {"detail": 3}, Refused), (400, {"detail": {"kind": []}}, Invalid),
    ],
)  # fmt: skip
def test_errors_without_fields_go_by_their_status(
    server: Server, client: Client, status: int, body: Any, expected: type[Refused]
) -> None:
    server.answers["GET", "/hosts"] = status, body
    with pytest.raises(Refused) as error:
        client.hosts()
    assert type(error.value) is expected
    assert str(error.value)
    assert all(getattr(error.value, field, None) is None for field in ("path", "what", "field", "service"))


def test_what_sand_does_not_have_is_not_found_and_what_it_has_works(server: Server, client: Client) -> None:
    sand = {key: ENDPOINT[key] for key in ("id", "network_id", "hostname")}
    server.answers["GET", "/networks"] = 200, {"networks": [NETWORK]}
    server.answers["GET", "/endpoints"] = 200, {"endpoints": [sand]}
    server.answers["POST", "/endpoints"] = 201, {"endpoint": sand}
    server.answers["DELETE", "/endpoints/e1?hostname=h1"] = 204, {}
    for call in (client.status, client.acls, client.export, client.routers):
        with pytest.raises(NotFound):
            call()
    assert client.network("amber").id == "n1"  # SAND finds networks by id only
    assert client.endpoint("e1").host == "h1"  # SAND only lists endpoints
    client.create_endpoint("amber", netns="/run/netns/x")
    assert server.requests[-1][2] == {
        "network_id": "n1",
        "activate": True,
        "activate_params": {"ns_handle_path": "/run/netns/x"},
    }
    client.delete_endpoint("e1")
    with pytest.raises(NotFound):
        client.network("nope")
    with pytest.raises(NotFound):
        client.endpoint("nope")


def test_the_next_agent_is_tried_when_one_cannot_be_connected_to(server: Server, tmp_path: Path) -> None:
    server.answers["GET", "/version"] = 200, {"version": "v1"}
    with Client(closed_port(), f"unix://{tmp_path}/none", server.url) as client:
        assert [client.version(), client.version()] == ["v1", "v1"]
        server.close()
        with pytest.raises(AgentUnreachable, match="no agent at"):
            client.connect("amber", "10.0.0.2", 80)


def test_an_agent_that_comes_back_is_used_again(server: Server) -> None:
    port = int(closed_port().rpartition(":")[2])
    with Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(AgentUnreachable):
            client.version()
        with closing(Server(port)) as late:
            late.answers["GET", "/version"] = 200, {"version": "v1"}
            assert client.version() == "v1"


def test_a_request_that_was_sent_is_not_sent_to_another_agent(server: Server) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        threading.Thread(target=lambda: listener.accept()[0].close(), daemon=True).start()
        with Client(f"http://127.0.0.1:{listener.getsockname()[1]}", server.url) as client, pytest.raises(NoAnswer):
            client.create_network("amber")
    assert server.requests == []


@pytest.mark.parametrize("url", ["ftp://x", "x", "", "http://", "http://[::1", "http://h:port"])
def test_what_is_no_url_is_refused_at_once(url: str) -> None:
    with pytest.raises(Error, match="no URL of an agent"):
        Client(url)


@pytest.mark.parametrize("data", [None, [], "x", 3])
def test_an_answer_that_is_no_json_object_is_an_error(server: Server, client: Client, data: Any) -> None:
    server.answers["GET", "/hosts"] = 200, data
    with pytest.raises(NoAnswer, match="no JSON object"):
        client.hosts()


def test_a_connection_into_a_network_is_a_socket(server: Server, client: Client) -> None:
    with client.connect("amber", "10.0.0.2", 80) as connection:
        assert connection.recv(5) == b"hello"
        connection.sendall(b"abc")
        assert connection.recv(3) == b"ABC"
    assert server.requests[-1] == ("CONNECT", "/networks/amber?ip=10.0.0.2&port=80", None)
    detail = {"kind": "not_found", "what": "network", "name": "nope"}
    server.answers["CONNECT", "/networks/nope?ip=10.0.0.2&port=80"] = 404, {"error": "no", "detail": detail}
    with pytest.raises(NotFound) as error:
        client.connect("nope", "10.0.0.2", 80)
    assert (error.value.what, error.value.name) == ("network", "nope")
    with pytest.raises(Invalid):
        client.connect("../x", "10.0.0.2", 80)


def test_the_client_for_asyncio_does_the_same(server: Server) -> None:
    server.answers["GET", "/networks/amber"] = 200, {"network": NETWORK}
    server.answers["CONNECT", "/networks/nope?ip=10.0.0.2&port=80"] = 404, {"error": "no network"}

    async def use() -> None:
        async with AsyncClient(closed_port(), server.url) as client:
            both = await asyncio.gather(client.network("amber"), client.network("amber"))
            assert [network.vxlan_vni for network in both] == [7, 7]
            with pytest.raises(Invalid):
                await client.delete_network("")
            with pytest.raises(NotFound):
                await client.status()
            reader, writer = await client.connect("amber", "10.0.0.2", 80)
            assert await reader.readexactly(5) == b"hello"
            writer.write(b"abc")
            assert await reader.readexactly(3) == b"ABC"
            writer.close()
            await writer.wait_closed()
            with pytest.raises(NotFound, match="no network"):
                await client.connect("nope", "10.0.0.2", 80)
        async with AsyncClient(closed_port()) as client:
            with pytest.raises(AgentUnreachable):
                await client.networks()
            with pytest.raises(AgentUnreachable):
                await client.connect("amber", "10.0.0.2", 80)

    asyncio.run(use())


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl")
def test_agents_that_want_a_certificate_are_given_one(tmp_path: Path) -> None:
    certificates(tmp_path)
    cert, key, ca = (str(tmp_path / name) for name in ("agent.pem", "agent.key", "ca.pem"))
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=ca)
    context.load_cert_chain(cert, key)
    context.verify_mode = ssl.CERT_REQUIRED
    ours = tls_context(cert, key, ca)
    with closing(Server(tls=context)) as server:
        server.answers["GET", "/version"] = 200, {"version": "v1"}
        with Client(server.url, tls=ours) as client:
            assert client.version() == "v1"
            with client.connect("amber", "10.0.0.2", 80) as connection:
                assert connection.recv(5) == b"hello"

        async def use() -> None:
            async with AsyncClient(server.url, tls=ours) as client:
                assert await client.version() == "v1"
                reader, writer = await client.connect("amber", "10.0.0.2", 80)
                assert await reader.readexactly(5) == b"hello"
                writer.transport.abort()

        asyncio.run(use())
        for wrong in (None, tls_context(ca=ca)):
            with Client(server.url, tls=wrong) as client, pytest.raises((AgentUnreachable, NoAnswer)):
                client.version()
            with Client(server.url, tls=wrong) as client, pytest.raises((AgentUnreachable, NoAnswer)):
                client.connect("amber", "10.0.0.2", 80)
    with pytest.raises(Error, match="TLS files"):
        tls_context(cert="/nope", key="/nope")


def test_both_clients_have_all_operations() -> None:
    public = operations.__all__
    assert len(public) > 35
    for cls in (Client, AsyncClient):
        assert {name for name in public if name not in vars(cls)} == set()
        assert all(getattr(cls, name).__doc__ for name in public)


def test_the_client_imports_nothing_else_of_warren() -> None:
    done = subprocess.run(program("client_modules"), capture_output=True, text=True, check=True)
    assert {module for module in done.stdout.split() if not module.startswith("warren.client")} == {"warren"}


def test_exceptions_have_one_base() -> None:
    assert all(issubclass(kind, Error) for kind in (AgentUnreachable, NoAnswer, Exhausted, LeaseExpired))


def test_the_blocking_client_imports_no_asyncio() -> None:
    """The command line starts with this import; `AsyncClient` is there at its first use."""
    code = (
        "import sys; from warren.client import Client; assert 'asyncio' not in sys.modules;"
        " from warren.client import AsyncClient; assert 'asyncio' in sys.modules; import warren.client;"
        " print(AsyncClient.__name__, hasattr(warren.client, 'Nothing'))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "AsyncClient False\n"

"""The agent's settings, read once from the environment. Warren's variables take precedence over SAND's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from specs.model.names import is_name
from specs.model.site import OutsideAddress, parse_outside
from warren.errors import Invalid
from warren.settings import Settings, choice, machine_ids, run_directory, settings, vtep


@dataclass(frozen=True, slots=True)
class Tls:
    """Paths of a certificate, its key, and the certificate of the authority that signs the peers' certificates."""

    cert: str
    key: str
    ca: str


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of the agent. `attach_timeout_s` and `docker_sweep_s` are in seconds, `underlay_mtu` in bytes."""

    common: Settings
    vtep: IPv4Address | IPv6Address | None
    socket: str | None
    http: tuple[str, int] | None
    http_tls: Tls | None
    api: str | None
    underlay_mtu: int | None
    docker_socket: str | None
    docker_names: tuple[str, ...]
    docker_port: int | None
    docker_specs: Path
    docker_engine: str
    docker_sweep_s: float
    docker_mirror: str | None
    attach_timeout_s: float
    connects_anywhere: bool
    run: Path
    machine: tuple[str, str]
    forwards_for_others: bool
    docker_user: bool
    ct_limit: int
    site: str | None
    outside: OutsideAddress | None
    underlay: str | None
    api_name: str

    @property
    def with_docker(self) -> bool:
        """Return whether the agent is a driver of Docker."""
        return bool(self.docker_socket or self.docker_names or self.docker_port)

    @property
    def docker_sockets(self) -> dict[str, str]:
        """Return the paths of the driver's sockets by the name that each gives to the driver."""
        directory = Path(self.docker_socket).parent if self.docker_socket else PLUGINS
        sockets = {Path(self.docker_socket).stem: self.docker_socket} if self.docker_socket else {}
        return sockets | {name: str(directory / f"{name}.sock") for name in self.docker_names}

    @property
    def host(self) -> str:
        """Return the name of the host that this agent serves."""
        return self.common.host


PLUGINS = Path("/run/docker/plugins")  # where Docker looks for the sockets of drivers
_GO_TRUE, _GO_FALSE = ("1", "t", "true"), ("", "0", "f", "false")
SETTINGS = """\
  WARREN_HOST              this host's name [hostname]                              PEER_HOSTNAME, PUBLIC_HOSTNAME
  WARREN_MACHINE_ID        this machine's id, or the path of a file that holds it [/etc/machine-id]
  WARREN_VTEP              its address on the underlay, for VXLAN (required, but in a cloud)   PEER_IP, PUBLIC_IP
  WARREN_UNDERLAY          cloud: VTEP, site and outside address that are not set here come from the cloud's metadata, by warren-underlay [none]
  WARREN_SITE              name of the site that this host is in; hosts of other sites are reached encrypted [that of the host's record]
  WARREN_OUTSIDE           its address for hosts of other sites: ADDRESS[@INTERFACE][,public=ADDRESS][,port=51820] [that of the host's record]
  WARREN_ETCD              etcd's URLs, with commas [http://127.0.0.1:2379]         ETCD_HOSTS
  WARREN_PREFIX            prefix of all keys in etcd [/warren]                     ETCD_PREFIX, ETCDPREFIX
  WARREN_ETCD_CERT, _KEY, _CA    client certificate for etcd                        ETCD_TLS_CERT, ETCD_TLS_KEY, ETCD_CACERT
  WARREN_OVSDB             OVS's database [unix:/var/run/openvswitch/db.sock]
  WARREN_SOCKET            unix socket to listen on; '' is none [/run/warren/agent.sock]
  WARREN_HTTP              host:port to listen on; '' is none [127.0.0.1:9999]      HTTP_PORT, PORT (on all addresses)
  WARREN_TLS_CERT, _KEY, _CA     all three: HTTPS, client certificates required     HTTP_TLS_CERT, HTTP_TLS_KEY, HTTP_TLS_CA
  WARREN_API               URL at which other agents reach this one [from WARREN_HTTP]    API_HOSTNAME (its host)
  WARREN_UNDERLAY_MTU      MTU of the underlay in bytes, if it is smaller than that of WARREN_VTEP's interface [that]
  WARREN_DOCKER_SOCKET     unix socket of the Docker driver, /run/docker/plugins/warren.sock; unset is no driver
  WARREN_DOCKER_NAMES      further names of the driver, with commas, such as sand,dovesnap: a socket each beside WARREN_DOCKER_SOCKET [none]
  ENABLE_DOCKER_PLUGIN     true: driver `sand` on 127.0.0.1, port DOCKER_PLUGIN_HTTP_PORT [9998], as SAND's agent    (SAND's)
  WARREN_DOCKER_SPECS      directory in which Docker finds that port, as sand.json [/etc/docker/plugins]
  WARREN_DOCKER_ENGINE     socket of the engine, for names and labels of containers [/var/run/docker.sock]
  WARREN_DOCKER_SWEEP_S    seconds between searches for endpoints of removed containers [30]
  WARREN_DOCKER_MIRROR     interface for copies of mirrored containers [that of the session]   MIRROR_BRIDGE_OUT (dovesnap's)
  WARREN_ATTACH_TIMEOUT_S  how many seconds an attach waits for the controller [5]
  WARREN_CONNECT           network: CONNECT reaches addresses of the network alone; any: all that its containers reach [network]
  WARREN_RUN               directory for files of DHCP clients, which outlive the agent [that of WARREN_SOCKET, else /run/warren]
  WARREN_FORWARD           warren: a host that was no router forwards for Warren's networks alone; all: for everybody [warren]
  WARREN_DOCKER_USER       on: let Warren's networks pass in Docker's chain DOCKER-USER; off: leave it alone [on]
  WARREN_DNS               name servers for names outside, with commas [those of /etc/resolv.conf]
  WARREN_CT_LIMIT          connections that this host tracks of each network without ct_limit; 0 is no limit [16384]
  WARREN_TRUSTED_NETWORK   on: listeners beyond this host without TLS are no problem in `warren status` [off]
  WARREN_LOG               DEBUG, INFO, WARNING or ERROR [INFO]
  WARREN_SETTINGS          file of settings that systemd reads; SIGHUP reads WARREN_LOG from it again [/etc/warren/warren.env]
  OVS_RUNDIR               where ovs-ofctl finds the switch [/var/run/openvswitch]
"""


def load(env: Mapping[str, str]) -> Config:
    """Read the settings from the environment. Raises `Invalid` with the variable's name."""

    def get(*names: str, default: str = "") -> str:
        return next((env[name] for name in names if env.get(name)), default)

    address = vtep(env)
    http_tls = _tls(env)
    http = _http(env)
    mtu = get("WARREN_UNDERLAY_MTU")
    return Config(
        common=settings(env),
        vtep=_address("WARREN_VTEP", address) if address else None,
        socket=env.get("WARREN_SOCKET", "/run/warren/agent.sock") or None,
        http=http,
        http_tls=http_tls,
        api=get("WARREN_API") or _api(http, http_tls is not None, address, get("API_HOSTNAME")),
        underlay_mtu=int(_number("WARREN_UNDERLAY_MTU", mtu, 576)) if mtu else None,
        docker_socket=env.get("WARREN_DOCKER_SOCKET") or None,
        docker_names=_names("WARREN_DOCKER_NAMES", get("WARREN_DOCKER_NAMES")),
        docker_port=_docker_port(env),
        docker_specs=Path(get("WARREN_DOCKER_SPECS", default="/etc/docker/plugins")),
        docker_engine=env.get("WARREN_DOCKER_ENGINE", "/var/run/docker.sock"),
        docker_sweep_s=_number("WARREN_DOCKER_SWEEP_S", get("WARREN_DOCKER_SWEEP_S", default="30"), 1),
        docker_mirror=get("WARREN_DOCKER_MIRROR", "MIRROR_BRIDGE_OUT") or None,
        attach_timeout_s=_number("WARREN_ATTACH_TIMEOUT_S", get("WARREN_ATTACH_TIMEOUT_S", default="5"), 0),
        connects_anywhere=choice("WARREN_CONNECT", get("WARREN_CONNECT"), "network", "any") == "any",
        run=run_directory(env),
        machine=machine_ids(env),
        forwards_for_others=choice("WARREN_FORWARD", get("WARREN_FORWARD"), "warren", "all") == "all",
        docker_user=choice("WARREN_DOCKER_USER", get("WARREN_DOCKER_USER"), "on", "off") == "on",
        site=_site(get("WARREN_SITE")),
        underlay=_underlay(get("WARREN_UNDERLAY")),
        api_name=get("API_HOSTNAME"),
        outside=parse_outside(get("WARREN_OUTSIDE"), "WARREN_OUTSIDE") if get("WARREN_OUTSIDE") else None,
        ct_limit=int(_number("WARREN_CT_LIMIT", get("WARREN_CT_LIMIT", default="16384"), 0)),
    )


def _http(env: Mapping[str, str]) -> tuple[str, int] | None:
    if "WARREN_HTTP" in env:
        if not env["WARREN_HTTP"]:
            return None
        host, colon, port = env["WARREN_HTTP"].rpartition(":")
        port = port if colon else ""
    elif sands := next((variable for variable in ("HTTP_PORT", "PORT") if env.get(variable)), None):
        return "0.0.0.0", _port(sands, env[sands], "a port number")
    else:
        return "127.0.0.1", 9999
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
        raise Invalid("WARREN_HTTP", env["WARREN_HTTP"], "host:port, such as 127.0.0.1:9999")
    return host.strip("[]") or "0.0.0.0", int(port)


def _api(http: tuple[str, int] | None, tls: bool, address: str, name: str) -> str | None:
    """Return the agent's URL for other agents; None when only this host can reach it. `name` is the host's in such a URL, if the
    environment has one."""
    if http is None:
        return None
    host, port = name or http[0], http[1]
    if host in ("0.0.0.0", "::"):
        host = address
    if not host or host == "localhost" or host == "::1" or host.startswith("127."):
        return None
    return f"{'https' if tls else 'http'}://{f'[{host}]' if ':' in host else host}:{port}"


def _tls(env: Mapping[str, str]) -> Tls | None:
    names = {f"WARREN_TLS_{part}": f"HTTP_TLS_{part}" for part in ("CERT", "KEY", "CA")}
    values = {ours: env.get(ours) or env.get(sands) or "" for ours, sands in names.items()}
    if not any(values.values()):
        return None
    for name, value in values.items():
        if not value:
            raise Invalid(name, value, "a file: certificate, key and authority are set together")
    return Tls(*values.values())


def _address(name: str, text: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(text)
    except ValueError:
        raise Invalid(name, text, "an IP address, such as 192.0.2.1") from None


def _number(name: str, text: str, least: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = least - 1
    if not value >= least:
        raise Invalid(name, text, f"a number of at least {least}")
    return value


def _names(variable: str, text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    for name in names:
        if not is_name(name):
            raise Invalid(variable, text, "names of drivers with commas, such as sand,dovesnap")
    return names


def _site(name: str) -> str | None:
    if name and not is_name(name):
        raise Invalid("WARREN_SITE", name, "the name of a site, such as bts1")
    return name or None


def _underlay(text: str) -> str | None:
    if text not in ("", "cloud"):
        raise Invalid("WARREN_UNDERLAY", text, "cloud, or nothing")
    return text or None


def api_url(config: Config, vtep: IPv4Address | IPv6Address) -> str | None:
    """Return the agent's URL for other agents when its VTEP is an address that the settings do not name."""
    return config.api or _api(config.http, config.http_tls is not None, str(vtep), config.api_name)


def _docker_port(env: Mapping[str, str]) -> int | None:
    """Return the port of SAND's driver, if it is enabled as a boolean of Go."""
    enabled = env.get("ENABLE_DOCKER_PLUGIN", "")
    if enabled.lower() not in (*_GO_TRUE, *_GO_FALSE):
        raise Invalid("ENABLE_DOCKER_PLUGIN", enabled, "true or false")
    if enabled.lower() in _GO_FALSE:
        return None
    name = "DOCKER_PLUGIN_HTTP_PORT" if env.get("DOCKER_PLUGIN_HTTP_PORT") else "DOCKERPLUGINHTTPPORT"
    return _port(name, env.get(name) or "9998", "a port number")


def _port(variable: str, text: str, expected: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) < 65_536):
        raise Invalid(variable, text, expected)
    return int(text)

"""The actions of an ACL rule: FAUCET's actions, with both forms of `output`, as steps in order. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from acl import fields
from acl.fields import FIELDS, VLAN_PRESENT
from pipeline.protocols import DOT1Q, TPIDS
from warren.errors import Invalid


class PopTag(NamedTuple):
    """Remove the outer VLAN tag, if there is one."""


class PushTag(NamedTuple):
    """Add a VLAN tag with this TPID. The next step sets its VID."""

    tpid: int


class SetField(NamedTuple):
    """Set a field. A VLAN id includes the present bit."""

    name: str
    value: int


class ToPort(NamedTuple):
    """Send a copy of the packet, as it is at this step, out of a port of this host: an endpoint's name, or an OpenFlow port."""

    port: str | int


ActionStep = PopTag | PushTag | SetField | ToPort


_ACTIONS = ("allow", "force_port_vlan", "meter", "mirror", "output")
_REFUSED = {
    "ct": "state: [established] or allow_related: true in its place (zones and table numbers are Warren's)",
}


def parse_actions(data: Mapping[str, Any], related: bool, path: str) -> dict[str, Any]:
    """Return the fields of a `Rule` that its actions determine. Raises `Invalid`."""
    if "actions" not in data:
        return {"allow": related, "steps": ()}
    actions = data["actions"]
    if not isinstance(actions, Mapping) or not actions:
        raise Invalid(path, actions, f"a mapping with some of {', '.join(_ACTIONS)}")
    for key in actions:
        if key not in _ACTIONS:
            raise Invalid(f"{path}.{key}", actions[key], _REFUSED.get(key, f"one of {', '.join(_ACTIONS)}"))
    for key in ("allow", "force_port_vlan"):
        if key in actions and not isinstance(actions[key], int):
            raise Invalid(f"{path}.{key}", actions[key], "1 or 0")
    meter, mirror = actions.get("meter"), actions.get("mirror")
    if "meter" in actions and not isinstance(meter, str):
        raise Invalid(f"{path}.meter", meter, "the name of a meter")
    if "mirror" in actions:
        mirror = _port(mirror, f"{path}.mirror")
    allow = actions["allow"] == 1 if "allow" in actions else mirror is not None or related
    if related and not allow:
        raise Invalid(f"{path}.allow", actions["allow"], "1 beside allow_related")
    steps = _steps(actions["output"], f"{path}.output") if "output" in actions else ()
    return {"allow": allow, "meter": meter, "mirror": mirror, "steps": steps}


_DICT_ORDER = ("pop_vlans", "vlan_vid", "swap_vid", "vlan_vids", "set_fields", "port", "ports")
_OUTPUT_REFUSED = {
    "failover": "ports (a container's port has no carrier that a group could watch)",
    "tunnel": "an endpoint on the overlay (FAUCET's tunnels run through its stack of switches)",
}


def _steps(data: Any, path: str) -> tuple[ActionStep, ...]:
    if isinstance(data, list):
        return tuple(step for number, item in enumerate(data) for step in _element(item, f"{path}[{number}]"))
    if not isinstance(data, Mapping):
        raise Invalid(path, data, "a mapping or a list, such as {port: NAME}")
    return tuple(step for key in _in_order(data, path) for step in _step(key, data[key], f"{path}.{key}"))


def _element(item: Any, path: str) -> list[ActionStep]:
    if not isinstance(item, Mapping) or len(item) != 1:
        raise Invalid(path, item, "one action in each element of the list")
    ((key, value),) = item.items()
    return _step(key, value, f"{path}.{key}")


def _in_order(data: Mapping[str, Any], path: str) -> list[str]:
    """The keys of an `output` that is a mapping, in FAUCET's order. Of vlan_vid, swap_vid and vlan_vids FAUCET takes the first."""
    for one, other in (("vlan_vid", "vlan_vids"), ("port", "ports")):
        if one in data and other in data:
            raise Invalid(f"{path}.{other}", data[other], f"one of {one} and {other}")
    for key in data:
        if key not in _DICT_ORDER:
            raise _unknown(key, data[key], f"{path}.{key}")
    tags = [key for key in ("vlan_vid", "swap_vid", "vlan_vids") if key in data]
    return [key for key in _DICT_ORDER if key in data and key not in tags[1:]]


def _step(key: Any, value: Any, path: str) -> list[ActionStep]:
    if key not in _DICT_ORDER:
        raise _unknown(key, value, path)
    return _READERS[key](value, path)


def _unknown(key: Any, value: Any, path: str) -> Invalid:
    return Invalid(path, value, _OUTPUT_REFUSED.get(key, f"one of {', '.join(_DICT_ORDER)}"))


def _pop(value: Any, path: str) -> list[ActionStep]:
    if not isinstance(value, int) or not 0 <= value <= 2:
        raise Invalid(path, value, "how many tags to take off: 0 to 2")
    return [PopTag()] * int(value)


def _pushes(value: Any, path: str) -> list[ActionStep]:
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        raise Invalid(path, value, "a list of one or two VLAN ids")
    return [step for i, item in enumerate(value) for step in _push(item, f"{path}[{i}]")]


def _swap(value: Any, path: str) -> list[ActionStep]:
    return [SetField("vlan_vid", _vid(value, path) | VLAN_PRESENT)]


def _to_port(value: Any, path: str) -> list[ActionStep]:
    return [ToPort(_port(value, path))]


def _to_ports(value: Any, path: str) -> list[ActionStep]:
    if not isinstance(value, list) or not value:
        raise Invalid(path, value, "a list of ports")
    return [ToPort(_port(item, f"{path}[{i}]")) for i, item in enumerate(value)]


def _push(value: Any, path: str) -> list[ActionStep]:
    tpid = DOT1Q
    if isinstance(value, Mapping):
        if set(value) - {"vid", "eth_type"} or "vid" not in value:
            raise Invalid(path, value, "{vid: 100, eth_type: 0x88a8}")
        tpid, value = value.get("eth_type", tpid), value["vid"]
        if tpid not in TPIDS:
            raise Invalid(f"{path}.eth_type", tpid, "0x8100 or 0x88a8")
    return [PushTag(tpid), SetField("vlan_vid", _vid(value, path) | VLAN_PRESENT)]


def _vid(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 4095:
        raise Invalid(path, value, "a VLAN id from 0 to 4095")
    return value


def _set_fields(data: Any, path: str) -> list[ActionStep]:
    if not isinstance(data, list) or not data:
        raise Invalid(path, data, "a list of mappings with one field each, such as [{eth_dst: '02:57:0a:00:00:02'}]")
    steps: list[ActionStep] = []
    for number, item in enumerate(data):
        where = f"{path}[{number}]"
        if not isinstance(item, Mapping) or len(item) != 1:
            raise Invalid(where, item, "a mapping with one field")
        ((name, value),) = item.items()
        if name not in FIELDS or name in _READ_ONLY:
            raise Invalid(f"{where}.{name}", value, "a field that can be set, by its OpenFlow name (eth_dst, not dl_dst)")
        alternatives = fields.parse(FIELDS[name], value, f"{where}.{name}")
        if len(alternatives) != 1 or alternatives[0][1] is not None:
            raise Invalid(f"{where}.{name}", value, "one value without a mask")
        steps.append(SetField(name, alternatives[0][0]))
    return steps


_READ_ONLY = {"in_port", "eth_type", "ip_proto", "ct_state", "mpls_bos", "ipv6_nd_sll", "ipv6_nd_tll"}


def _port(value: Any, path: str) -> str | int:
    if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "" or (isinstance(value, int) and value < 1):
        raise Invalid(path, value, "the name of an endpoint on the same host, or its OpenFlow port")
    return value


_READERS: dict[str, Callable[[Any, str], list[ActionStep]]] = {
    "pop_vlans": _pop,
    "vlan_vid": _push,
    "swap_vid": _swap,
    "vlan_vids": _pushes,
    "set_fields": _set_fields,
    "port": _to_port,
    "ports": _to_ports,
}

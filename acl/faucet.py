"""FAUCET's faucet.yaml as ACLs, meters and where they are used, with a note for each thing that was taken or could not be. Pure.

Checks what FAUCET 1.10 checks, so that a typing error is an error here too; and an ACL is taken whole or not at all: without one
of its rules it would mean something else.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from posixpath import dirname, join, normpath
from typing import Any, NamedTuple

import yaml

from specs import fields
from specs.acl import canonical, parse_rule
from specs.errors import Invalid

TEXT_LIMIT = 10_000_000  # characters of one file
NODES_LIMIT = 100_000  # of all files, aliases expanded
DEPTH_LIMIT = 64
LISTS_LIMIT = 16  # ACLs that an object of Warren's can have
METER_IDS = range(1, 32_769)
U32 = 0xFFFF_FFFF


class Acl(NamedTuple):
    """An ACL with its rules as Warren stores them."""

    name: str
    rules: tuple[dict[str, Any], ...]
    line: int


class Meter(NamedTuple):
    """A meter: kb/s and kb, or packets; no `meter_id` when FAUCET's is out of Warren's range."""

    name: str
    meter_id: int | None
    rate: int
    burst: int
    packets: bool


@dataclass(frozen=True, slots=True)
class Use:
    """Where ACLs are attached: `field` of the endpoint, network or host with that name or one of the aliases."""

    kind: str
    name: str
    field: str
    acls: tuple[str, ...]
    line: int
    aliases: tuple[str, ...] = ()
    file: str = ""


@dataclass(frozen=True, slots=True)
class Note:
    """What became of one thing in a file."""

    file: str
    line: int
    path: str
    taken: bool
    text: str


@dataclass(frozen=True, slots=True)
class Import:
    """What a faucet.yaml has for Warren."""

    acls: tuple[Acl, ...] = ()
    meters: tuple[Meter, ...] = ()
    uses: tuple[Use, ...] = ()
    notes: tuple[Note, ...] = ()


def read(files: Mapping[str, str], main: str) -> Import:
    """Reads `main` and what it includes of `files`. Raises `Invalid`, file and line first, for what FAUCET refuses."""
    return _Reader(files, main).found()


def includes(text: str, file: str) -> tuple[str, ...]:
    """The paths of the files that a file's text includes. Raises `Invalid`."""
    return tuple(path for path, _, _ in _included(_data(text, file, [0]), file))


# ---- YAML -----------------------------------------------------------------------------------------------------------


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML 1.2's types as FAUCET's loader has them (0x800, 0o14, 0b1, 1_000; 0800 is 800), with `<<`. No base 60: a MAC is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}


_TAG = "tag:yaml.org,2002:"
for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0b[01_]+|0o[0-7_]+|0x[0-9a-fA-F_]+|[0-9][0-9_]*)\Z", list("-+0123456789")),
    ("float", r"[-+]?[0-9][0-9_]*(?:\.[0-9_]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)\Z", list("-+0123456789")),
    ("merge", r"<<\Z", ["<"]),
):
    _Loader.add_implicit_resolver(_TAG + _tag, re.compile(_pattern), _first)


class _Map(dict[Any, Any]):
    """A mapping that knows the line of each key."""

    lines: dict[Any, int]


class _List(list[Any]):
    """A list that knows the line of each element."""

    lines: list[int]


def _data(text: str, file: str, count: list[int]) -> _Map:
    """A file's data; `count` is how many values there are so far."""
    if len(text) > TEXT_LIMIT:
        raise Invalid(f"{file}:1", f"{len(text)} characters", f"at most {TEXT_LIMIT}")
    try:
        depth = 0
        for number, event in enumerate(yaml.parse(text, _Loader)):  # flat: a bomb is seen before anything is built from it
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > DEPTH_LIMIT or number > 2 * NODES_LIMIT:
                raise _bomb(f"{file}:{event.start_mark.line + 1}")
        data = _value(yaml.compose(text, _Loader), file, count, 0)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Invalid(f"{file}:{mark.line + 1 if mark else 1}", error.problem or error.context or "", "YAML") from None
    except (yaml.YAMLError, UnicodeError) as error:
        raise Invalid(f"{file}:1", str(error).splitlines()[0], "YAML text in UTF-8") from None
    if not isinstance(data, _Map) or not data:
        raise Invalid(f"{file}:1", data, f"a mapping with some of {', '.join(_TOP)}")
    for key in data:
        if key not in _TOP:
            raise Invalid(f"{file}:{data.lines[key]}: {key}", data[key], f"one of {', '.join(_TOP)}")
    return data


def _bomb(where: str) -> Invalid:
    return Invalid(where, "too much", f"at most {NODES_LIMIT} values (aliases written out) and {DEPTH_LIMIT} levels")


def _value(node: yaml.Node | None, file: str, count: list[int], depth: int) -> Any:
    """A node's data. An alias is built again each time that it is used, so that its size counts."""
    if node is None:
        return None
    where = f"{file}:{node.start_mark.line + 1}"
    count[0] += 1
    if count[0] > NODES_LIMIT or depth > DEPTH_LIMIT:
        raise _bomb(where)
    if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
        items = _List(_value(item, file, count, depth + 1) for item in node.value)
        items.lines = [item.start_mark.line + 1 for item in node.value]
        return items
    if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
        return _mapping(node, file, count, depth)
    return _scalar(node, where)


def _scalar(node: yaml.Node, where: str) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    try:
        match kind:
            case "str":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int":
                plain = text.replace("_", "")
                return int(plain, 10 if plain.lstrip("+-").isdigit() else 0)
            case "float":
                return float(text.replace("_", ""))
    except ValueError:
        pass
    raise Invalid(where, text if isinstance(text, str) else node.tag, "a plain YAML value")


def _mapping(node: yaml.MappingNode, file: str, count: list[int], depth: int) -> _Map:
    result, merged, lines = _Map(), _Map(), {}
    for key_node, value_node in node.value:
        line = key_node.start_mark.line + 1
        merge = key_node.tag == _TAG + "merge"
        key = "<<" if merge else _scalar(key_node, f"{file}:{line}") if isinstance(key_node, yaml.ScalarNode) else None
        if not isinstance(key, str | int) or key in lines:
            raise Invalid(f"{file}:{line}", key_node.value, "each key once, a word or a number")
        lines[key] = line
        value = _value(value_node, file, count, depth + 1)
        if not merge:
            result[key] = value
            continue
        for part in value if isinstance(value, _List) else [value]:
            if not isinstance(part, _Map):
                raise Invalid(f"{file}:{line}: <<", part, "a mapping or a list of mappings to merge")
            merged.update({k: v for k, v in part.items() if k not in merged})
            lines = part.lines | lines
    result.update({k: v for k, v in merged.items() if k not in result})
    result.lines = lines
    return result


_PART = re.compile(r"\.([^.\[\]]+)|\[(\d+)\]")


def _line(data: Any, rest: str, line: int) -> int:
    """The line of the deepest thing on the path `rest` that `data` has."""
    for name, index in _PART.findall(rest):
        if isinstance(data, _Map) and isinstance(data.get("rule"), _Map):
            data = data["rule"]
        key = int(index) if index else name
        if isinstance(data, _List) and isinstance(key, int) and key < len(data):
            line, data = data.lines[key], data[key]
        elif isinstance(data, _Map) and key in data:
            line, data = data.lines[key], data[key]
        else:
            break
    return line


def _plain(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _plain(value) for key, value in data.items()}
    return [_plain(item) for item in data] if isinstance(data, list) else data


def _included(data: _Map, file: str) -> Iterator[tuple[str, int, bool]]:
    for word in ("include", "include-optional"):
        paths = data.get(word, [])
        if not isinstance(paths, list):
            raise Invalid(f"{file}:{data.lines[word]}: {word}", paths, "a list of files")
        for number, path in enumerate(paths):
            yield normpath(join(dirname(file), str(path))), paths.lines[number], word == "include"


# ---- what FAUCET knows ----------------------------------------------------------------------------------------------

_SECTIONS = ("acls", "dps", "meters", "routers", "vlans")
_TOP = (*_SECTIONS, "include", "include-optional", "version")
_Types = dict[str, type | tuple[type, ...]]
_FIELDS = {*fields.FIELDS, *fields.ALIASES, *fields.REFUSED}
_RULE: _Types = {"cookie": int, "actions": dict, "description": str} | dict.fromkeys(_FIELDS, (str, int))
_BODY: _Types = {"rules": list, "exact_match": bool, "dot1x_assigned": bool}
_ACTIONS: _Types = {
    "meter": str, "mirror": (str, int), "output": (dict, list), "allow": int, "force_port_vlan": int, "ct": dict,
}  # fmt: skip
_OUTPUT: _Types = {
    "tunnel": dict, "port": (str, int), "ports": list, "failover": dict, "set_fields": list, "pop_vlans": int, "swap_vid": int,
    "vlan_vid": int, "vlan_vids": list,
}  # fmt: skip
_METER: _Types = {"meter_id": int, "entry": dict}
_PORT = """acl_in acls_in coprocessor count_untag_vlan_miss description dot1x dot1x_acl dot1x_dyn_acl dot1x_mab enabled hairpin
    hairpin_unicast lacp lacp_active lacp_collect_and_distribute lacp_passthrough lacp_port_id lacp_port_priority
    lacp_resp_interval lacp_selected lacp_standby lacp_unselected lldp_beacon lldp_peer_mac loop_protect loop_protect_external
    max_hosts max_lldp_lost mirror name native_vlan number opstatus_reconf output_only permanent_learn receive_lldp
    restricted_bcast_arpnd stack tagged_vlans unicast_flood""".split()
_VLAN = """acl_in acl_out acls_in acls_out description dot1x_assigned edge_learn_stack_root faucet_mac faucet_vips max_hosts
    minimum_ip_size_check name proactive_arp_limit proactive_nd_limit reserved_internal_vlan routes targeted_gw_resolution
    unicast_flood vid""".split()
_DP = """advertise_interval arp_neighbor_timeout cache_update_guard_time combinatorial_port_flood cookie description dot1x dp_acls
    dp_id drop_broadcast_source_address drop_spoofed_faucet_mac egress_pipeline fast_advertise_interval faucet_dp_mac global_vlan
    group_table hardware high_priority highest_priority idle_dst ignore_learn_ins interface_ranges interfaces lacp_timeout
    learn_ban_timeout learn_jitter lldp_beacon low_priority lowest_priority max_host_fib_retry_count max_hosts_per_resolve_cycle
    max_resolve_backoff_time max_wildcard_table_size metrics_rate_limit_sec min_wildcard_table_size multi_out name
    nd_neighbor_timeout ofchannel_log packetin_pps port_table_scale_factor priority_offset proactive_learn_v4 proactive_learn_v6
    slowpath_pps stack strict_packet_in_cookie table_sizes timeout use_classification use_idle_timeout""".split()

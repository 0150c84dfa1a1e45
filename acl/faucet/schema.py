"""What FAUCET 1.10 accepts: the keys and types of its objects, and its checks of a rule. Pure.

FAUCET finds some errors only when it makes flows of a rule, such as an address that is none; those are left to specs.acl.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from acl import fields
from warren.errors import Invalid
from warren.yaml import Map, plain

SECTIONS = ("acls", "dps", "meters", "routers", "vlans")
TOP = (*SECTIONS, "include", "include-optional", "version")
Types = Mapping[str, Any]
RULE: Types = dict.fromkeys({*fields.FIELDS, *fields.ALIASES, *fields.REFUSED}, (str, int)) | {
    "cookie": int, "actions": dict, "description": str,
}  # fmt: skip
BODY: Types = {"rules": list, "exact_match": bool, "dot1x_assigned": bool}
_ACTIONS: Types = {
    "meter": str, "mirror": (str, int), "output": (dict, list), "allow": int, "force_port_vlan": int, "ct": dict,
}  # fmt: skip
_OUTPUT: Types = {
    "tunnel": dict, "port": (str, int), "ports": list, "failover": dict, "set_fields": list, "pop_vlans": int, "swap_vid": int,
    "vlan_vid": int, "vlan_vids": list,
}  # fmt: skip
METER: Types = {"meter_id": int, "entry": dict}
_CT: Types = dict.fromkeys(("flags", "alg", "table", "zone", "zone_src", "mark", "label"), int) | {"clear": bool, "nat": dict}
_USE: Types = {
    "acl_in": (str, int),
    "acls_in": list,
    "acl_out": (str, int),
    "acls_out": list,
    "dp_acls": list,
    "interfaces": dict,
}


def _keys(names: str, *uses: str) -> Types:
    return dict.fromkeys(names.split(), object) | {key: _USE[key] for key in uses}


PORT = _keys(
    """coprocessor count_untag_vlan_miss description dot1x dot1x_acl dot1x_dyn_acl dot1x_mab enabled hairpin hairpin_unicast lacp
    lacp_active lacp_collect_and_distribute lacp_passthrough lacp_port_id lacp_port_priority lacp_resp_interval lacp_selected
    lacp_standby lacp_unselected lldp_beacon lldp_peer_mac loop_protect loop_protect_external max_hosts max_lldp_lost mirror name
    native_vlan number opstatus_reconf output_only permanent_learn receive_lldp restricted_bcast_arpnd stack tagged_vlans
    unicast_flood""",
    "acl_in", "acls_in",
)  # fmt: skip
VLAN = _keys(
    """description dot1x_assigned edge_learn_stack_root faucet_mac faucet_vips max_hosts minimum_ip_size_check name
    proactive_arp_limit proactive_nd_limit reserved_internal_vlan routes targeted_gw_resolution unicast_flood vid""",
    "acl_in", "acls_in", "acl_out", "acls_out",
)  # fmt: skip
DP = _keys(
    """advertise_interval arp_neighbor_timeout cache_update_guard_time combinatorial_port_flood cookie description dot1x dp_id
    drop_broadcast_source_address drop_spoofed_faucet_mac egress_pipeline fast_advertise_interval faucet_dp_mac global_vlan
    group_table hardware high_priority highest_priority idle_dst ignore_learn_ins interface_ranges lacp_timeout learn_ban_timeout
    learn_jitter lldp_beacon low_priority lowest_priority max_host_fib_retry_count max_hosts_per_resolve_cycle
    max_resolve_backoff_time max_wildcard_table_size metrics_rate_limit_sec min_wildcard_table_size multi_out name
    nd_neighbor_timeout ofchannel_log packetin_pps port_table_scale_factor priority_offset proactive_learn_v4 proactive_learn_v6
    slowpath_pps stack strict_packet_in_cookie table_sizes timeout use_classification use_idle_timeout""",
    "dp_acls", "interfaces",
)  # fmt: skip


def check(data: Any, types: Types, file: str, path: str, line: int) -> None:
    """Check an object as FAUCET does: known keys, right types, null allowed everywhere. Raises `Invalid`."""
    if not isinstance(data, Map):
        raise Invalid(f"{file}:{line}: {path}", data, "a mapping")
    for key, value in data.items():
        where = f"{file}:{data.lines[key]}: {path}{'.' if path else ''}{key}"
        if key not in types:
            near = types is RULE and key in ("from", "to", "proto", "state", "allow_related", "log")
            raise Invalid(where, value, "a key that FAUCET knows" + " (this word is Warren's own)" * near)
        if value is not None and not isinstance(value, types[key]):
            kinds = types[key] if isinstance(types[key], tuple) else (types[key],)
            raise Invalid(where, value, " or ".join(_KINDS[kind] for kind in kinds))


_KINDS = {str: "text", int: "a number", bool: "true or false", dict: "a mapping", list: "a list"}
_WORDS = {"yes": True, "on": True, "no": False, "off": False}

COOKIE_LIMIT = 65_536


def inside(rule: Any) -> Any:
    """Return a rule's fields and actions from any of its three notations."""
    if not isinstance(rule, Map):
        return rule
    inner = rule.get("rule", rule)
    if inner is None:
        inner = Map({key: value for key, value in rule.items() if value is not None})
        inner.lines = rule.lines
    return inner


def check_rule(rule: Any, file: str, path: str, line: int) -> None:
    """Check a rule as FAUCET does. Raises `Invalid`."""
    check(rule, RULE, file, path, line)
    for key, value in rule.items():
        _check_field(key, value, f"{file}:{rule.lines[key]}: {path}.{key}")
    if "actions" in rule:
        _check_actions(rule["actions"], file, f"{path}.actions", line, rule.lines["actions"])


def _check_field(key: str, value: Any, where: str) -> None:
    if value is None and key != "description":
        raise Invalid(where, value, "a value")
    if isinstance(value, str) and "-" in value and key in fields.FIELDS and fields.FIELDS[key].kind == "port":
        raise Invalid(where, value, "one port, or a port and a mask such as 1024/0xfc00 (FAUCET has no ranges)")
    if key == "cookie" and not 0 <= value <= COOKIE_LIMIT:
        raise Invalid(where, value, f"a number from 0 to {COOKIE_LIMIT}")


def _check_actions(actions: Any, file: str, path: str, rule_line: int, line: int) -> None:
    if not actions:
        raise Invalid(f"{file}:{line}: {path}", plain(actions), "at least one action (a rule without actions drops)")
    check(actions, _ACTIONS, file, path, rule_line)
    for key in ("meter", "mirror", "output", "ct"):
        if key in actions and actions[key] is None:
            raise Invalid(f"{file}:{actions.lines[key]}: {path}.{key}", None, "a value")
    if "ct" in actions:
        check(actions["ct"], _CT, file, f"{path}.ct", actions.lines["ct"])
    if "output" in actions:
        _check_output(actions["output"], file, f"{path}.output", actions.lines["output"])


def _check_output(output: Any, file: str, path: str, line: int) -> None:
    if isinstance(output, Map):
        check(output, _OUTPUT, file, path, line)
        return
    for number, part in enumerate(output):
        check(part, _OUTPUT, file, f"{path}[{number}]", output.lines[number])
        if len(part) > 1:
            where = f"{file}:{output.lines[number]}: {path}[{number}]"
            raise Invalid(where, plain(part), "one action in each element of the list")


def words(data: Map) -> Iterator[tuple[str, str]]:
    """Replace yes, no, on and off by truth values, as FAUCET's older loaders did. Returns the replaced ones."""
    for key in ("allow", "force_port_vlan", "exact_match", "dot1x_assigned"):
        if isinstance(word := data.get(key), str) and word.lower() in _WORDS:
            data[key] = _WORDS[word.lower()]
            yield key, word

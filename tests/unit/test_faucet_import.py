"""Import of faucet.yaml: what is imported, what is reported as not imported, and what is refused as FAUCET refuses it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from acl.faucet.dialect import FAUCET
from acl.faucet.reader import read
from acl.faucet.result import HARMLESS, IN_FORCE, NOT_IN_FORCE, FaucetAcl, FaucetMeter, Import, ImportPart, Note
from acl.language import parse_rule
from specs.documents.document import parse
from tools.cli.acl_import import document, load, reconsidered, summary
from tools.cli.client import Failure
from warren.errors import Invalid

OFFICE = """\
    version: 2
    vlans:
        office:
            vid: 100
            description: office network
            acls_in: [office-vlan-protect]
            faucet_vips: ["10.0.100.254/24"]
        guest:
            vid: 200
            acl_out: guest-out
    acls:
        office-vlan-protect:
            # form 1, old names
            - rule:
                dl_type: 0x800      # ipv4
                nw_proto: 6
                nw_src: 10.0.100.0/24
                actions: {allow: 1}
            - rule:
                actions: {allow: 0}
        guest-out:
            # form 2, in a body
            exact_match: false
            rules:
                - eth_type: '0x0806'
                  actions: {allow: True}
                - {eth_type: 0x86dd, ip_proto: 58, actions: {allow: true, meter: slow}}
        access-port-protect:
            # form 3
            - rule:
              udp_src: 68
              dl_type: 0x800
              nw_proto: 17
              actions:
                  meter: slow
                  allow: 1
              description: DHCP
            - rule:
                dl_src: 12:34:56:11:22:33
                cookie: 65536
                actions:
                    output:
                        - set_fields: [{eth_dst: "02:57:0a:00:00:02"}]
                        - port: mirror-port
    meters:
        slow:
            meter_id: 1
            entry:
                flags: [KBPS, BURST, STATS]
                bands: [{type: DROP, rate: 1000, burst_size: 100}]
        packets:
            meter_id: 40000
            entry: {flags: PKTPS, bands: [{type: DROP, rate: 50, burst_size: 9}]}
    dps:
        sw1:
            dp_id: 0x1
            hardware: Open vSwitch
            timeout: 300
            stack: {priority: 1}
            interfaces:
                1: {name: h1, description: host1 container, native_vlan: office, acls_in: [access-port-protect, guest-out]}
                mirror-port: {number: 2, output_only: true}
            interface_ranges: {3-6: {native_vlan: office, acl_in: access-port-protect}}
        sw2:
            dp_id: 0x2
            dp_acls: [access-port-protect]
            interfaces: {1: {native_vlan: guest}}
    routers:
        router-1: {vlans: [office, guest]}
    """


def imported(text: str, **files: str) -> Import:
    texts = {name.replace("_", "-") + ".yaml": dedent(content) for name, content in files.items()}
    return read({"faucet.yaml": dedent(text), **texts}, "faucet.yaml")


def acls(text: str) -> Import:
    """With only an ACL."""
    return imported("acls:\n" + text)


def refused(text: str, **files: str) -> str:
    with pytest.raises(Invalid) as error:
        imported(text, **files)
    assert "\n" not in str(error.value)
    return str(error.value)


def notes(result: Import, taken: bool) -> dict[str, Note]:
    return {note.path: note for note in result.notes if (note.outcome is IN_FORCE) == taken}


# ---- what is taken --------------------------------------------------------------------------------------------------


def test_a_complete_faucet_file_is_imported() -> None:
    result = imported(OFFICE)
    assert {acl.name: acl.rules for acl in result.acls} == {
        "office-vlan-protect": (
            {"dl_type": 0x800, "nw_proto": 6, "nw_src": "10.0.100.0/24", "actions": {"allow": 1}},
            {"actions": {"allow": 0}},
        ),
        "guest-out": (
            {"eth_type": "0x0806", "actions": {"allow": True}},
            {"eth_type": 0x86DD, "ip_proto": 58, "actions": {"allow": True, "meter": "slow"}},
        ),
        "access-port-protect": (
            {"udp_src": 68, "dl_type": 0x800, "nw_proto": 17, "actions": {"meter": "slow", "allow": 1}, "description": "DHCP"},
            {
                "dl_src": "12:34:56:11:22:33",
                "cookie": 65536,
                "actions": {"output": [{"set_fields": [{"eth_dst": "02:57:0a:00:00:02"}]}, {"port": "mirror-port"}]},
            },
        ),
    }
    assert [acl.line for acl in result.acls] == [12, 21, 28]
    assert result.meters == (FaucetMeter("slow", 1, 1000, 100, False), FaucetMeter("packets", None, 50, 0, True))
    assert [(use.kind, use.name, use.aliases, use.field, use.acls, use.line) for use in result.uses] == [
        ("endpoint", "h1", ("1", "host1 container"), "acls", ("access-port-protect", "guest-out"), 61),
        ("host", "sw2", (), "acls", ("access-port-protect",), 66),
        ("network", "office", ("100",), "default_acl", ("office-vlan-protect",), 6),
        ("network", "guest", ("200",), "vlan_out_acl", ("guest-out",), 10),
    ]


def test_settings_that_warren_does_not_have_are_reported_with_their_line() -> None:
    line_of = {path: note.line for path, note in notes(imported(OFFICE), taken=False).items()}
    assert line_of == {
        "vlans.office.description": 5,
        "vlans.office.faucet_vips": 7,
        "dps.sw1.dp_id": 56,
        "dps.sw1.hardware": 57,
        "dps.sw1.timeout": 58,
        "dps.sw1.stack": 59,
        "dps.sw1.interfaces.1.native_vlan": 61,
        "dps.sw1.interfaces.mirror-port.output_only": 62,
        "dps.sw1.interface_ranges": 63,
        "dps.sw2.dp_id": 65,
        "dps.sw2.interfaces.1.native_vlan": 67,
        "routers.router-1": 69,
    }
    assert {note.outcome for note in notes(imported(OFFICE), taken=False).values() if "interface_ranges" not in note.path} == {
        HARMLESS
    }
    assert notes(imported(OFFICE), taken=False)["dps.sw1.interface_ranges"].outcome is NOT_IN_FORCE  # it has ACLs


@pytest.mark.parametrize(
    ("yaml", "value"),
    [
        ("0x800", 0x800),
        ("0o4000", 0x800),
        ("0b100", 4),
        ("2_048", 0x800),
        ("0800", 800),  # YAML 1.2, as FAUCET reads it
        ("'0x800'", "0x800"),
        ("!!int '5'", 5),
    ],
)
def test_numbers_are_as_faucets_loader_has_them(yaml: str, value: object) -> None:
    (acl,) = acls(f"  a: [{{eth_type: {yaml}}}]").acls
    assert acl.rules == ({"eth_type": value},)


@pytest.mark.parametrize("mac", ["11:22:33:44:55:06", "12:34:56:11:22:33", "10:10:10:10:10:10", "1:2:3:4:5:6"])
def test_a_mac_of_digits_is_no_base_60_number(mac: str) -> None:
    (acl,) = acls(f"  a: [{{eth_src: {mac}, actions: {{allow: 1}}}}]").acls
    assert acl.rules[0]["eth_src"] == mac


@pytest.mark.parametrize(("word", "value"), [("yes", True), ("On", True), ("no", False), ("off", False)])
def test_older_truth_values(word: str, value: bool) -> None:
    result = acls(f"  no: [{{actions: {{allow: {word}}}}}]")
    assert result.acls == (FaucetAcl("no", ({"actions": {"allow": value}},), 2),)
    assert notes(result, taken=True)["acls.no[0].actions.allow"].text == f"{word} is read as {str(value).lower()}"


def test_anchors_and_merge_keys() -> None:
    result = acls("""\
      one: &one
        - &web {dl_type: 0x800, nw_proto: 6, tcp_dst: 80, actions: {allow: 1}}
        - {<<: *web, tcp_dst: 443}
        - rule:
            tcp_src: 1
            <<: [{description: first}, *web, {description: second}]
      two: *one
    """)
    web = {"dl_type": 0x800, "nw_proto": 6, "actions": {"allow": 1}}
    rules = (web | {"tcp_dst": 80}, web | {"tcp_dst": 443}, web | {"tcp_dst": 80, "tcp_src": 1, "description": "first"})
    assert [acl.rules for acl in result.acls] == [rules, rules]
    assert all(type(value) in (dict, str, int) for acl in result.acls for rule in acl.rules for value in (rule, *rule.values()))


def test_includes_overwrite_and_may_be_optional() -> None:
    result = read(
        {
            "etc/faucet.yaml": "include: [acls.d/a.yaml]\ninclude-optional: [none.yaml, bad.yaml]\nacls: {a: [{cookie: 1}], b: [{cookie: 2}]}",
            "etc/acls.d/a.yaml": "include: [../b.yaml]\nacls: {a: [{cookie: 3}]}",
            "etc/b.yaml": "acls:\n  c: [{cookie: 4}]\n  d: [{tcp_dst: 1}]",
            "etc/bad.yaml": "acls: {a: [{cookie: 9}]}\ninclude: [gone.yaml]",
        },
        "etc/faucet.yaml",
    )
    assert {acl.name: acl.rules[0]["cookie"] for acl in result.acls} == {"a": 3, "b": 2, "c": 4}
    reported = {(note.file, note.line, note.path) for note in result.notes if "which nothing uses" not in note.text}
    assert reported == {
        ("etc/faucet.yaml", 1, "dps"),
        ("etc/faucet.yaml", 2, "include-optional"),
        ("etc/faucet.yaml", 3, "acls.a"),
        ("etc/b.yaml", 3, "acls.d"),
        ("etc/b.yaml", 3, "acls.d[0].tcp_dst"),
    }


def test_faucet_names_become_valid_warren_names() -> None:
    result = imported("""\
        acls:
            a b: [{cookie: 1}]
            a-b: [{cookie: 2}]
            1: [{cookie: 3}]
            "_x/y": [{cookie: 4, actions: {allow: 1, meter: m 1}}]
        meters: {m 1: {meter_id: 1, entry: {flags: PKTPS, bands: [{type: DROP, rate: 1}]}}}
        dps: {s: {interfaces: {1: {acls_in: [1, "_x/y"]}, 2: {acl_in: a b}}}}
        """)
    assert [(acl.name, acl.rules[0]["cookie"]) for acl in result.acls] == [("a-b", 2), ("1", 3), ("x-y", 4)]
    assert result.acls[2].rules[0]["actions"]["meter"] == result.meters[0].name == "m-1"
    assert [(use.name, use.acls) for use in result.uses] == [("1", ("1", "x-y"))]
    assert {"acls.a b", "dps.s.interfaces.2.acl_in"} <= set(notes(result, taken=False))


def test_an_empty_rule_drops() -> None:
    (acl,) = acls("  a: [{rule: {}}, {rule: null, cookie: 1, tcp_dst: null}]").acls
    assert acl.rules == ({"actions": {"allow": 0}}, {"cookie": 1})


# ---- what Warren refuses, and FAUCET does not -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rule", "path", "line"),
    [
        ("{dl_type: 0x800, \n\n tcp_dst: 80}", "acls.a[1].tcp_dst", 6),  # a switch refuses it
        ("{rule: {dl_type: 0x800,\n nw_src: 10.0.0.300}}", "acls.a[1].nw_src", 5),
        ("{ip_proto: 6,\n dl_type: 0x800,\n tcp_dst: 70000}", "acls.a[1].tcp_dst", 6),
        ("{actions: {ct: {zone: 1, table: 0}}}", "acls.a[1].actions.ct", 4),
        ("{actions: {output:\n {tunnel: {dp: s2}}}}", "acls.a[1].actions.output.tunnel", 5),
        ("{actions: {output: [{pop_vlans: 1},\n {failover: {group_id: 1}}]}}", "acls.a[1].actions.output[1].failover", 5),
        ("{rule: {actions: {allow: 1}},\n tcp_dst: 80}", "acls.a[1].tcp_dst", 5),  # FAUCET ignores it
        ("{dl_dst: '01:00:00:00:00:01', eth_dst: '01:00:00:00:00:02'}", "acls.a[1].eth_dst", 4),
        ("{metadata: 1}", "acls.a[1].metadata", 4),
        ("{actions: {allow: 1, meter: none}}", "acls.a", 4),
    ],
)
def test_an_acl_is_taken_whole_or_not_at_all(rule: str, path: str, line: int) -> None:
    result = acls(f"  good: [{{cookie: 1}}]\n  a: [{{actions: {{allow: 1}}}},\n   {rule}]")
    assert [acl.name for acl in result.acls] == ["good"]
    reported = [(note.path, note.line) for note in result.notes if note.outcome is not IN_FORCE]
    assert (path, line) in reported
    assert ("acls.a", 3) in reported


def test_all_wrong_rules_of_an_acl_are_reported_and_its_uses_are_dropped() -> None:
    result = imported("""\
        acls:
            bad: [{tcp_dst: 1}, {cookie: 1}, {udp_dst: 1}]
            good: [{cookie: 1}]
        dps:
            s: {interfaces: {1: {acls_in: [good, bad]}, 2: {acl_in: good}}}
        """)
    assert list(notes(result, taken=False)) == [
        "acls.bad",
        "acls.bad[0].tcp_dst",
        "acls.bad[2].udp_dst",
        "dps.s.interfaces.1.acls_in",
    ]
    assert [use.name for use in result.uses] == ["2"]


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("{flags: KBPS, bands: [{type: DROP, rate: 1}, {type: DROP, rate: 2}]}", "one band"),
        ("{flags: KBPS, bands: [{type: DSCP_REMARK, rate: 1}]}", "DSCP_REMARK"),
        ("{flags: [KBPS, PKTPS], bands: [{type: DROP, rate: 1}]}", "one of KBPS and PKTPS"),
        ("{flags: STATS, bands: [{type: DROP, rate: 1}]}", "one of KBPS and PKTPS"),
        ("{flags: [KBPS, FAST], bands: [{type: DROP, rate: 1}]}", "flags"),
        ("{flags: KBPS, bands: [{type: DROP}]}", "rate"),
        ("{flags: KBPS, bands: [{type: DROP, rate: many}]}", "rate"),
        ("{flags: KBPS, bands: [{type: DROP, rate: 4294967296}]}", "rate"),
    ],
)
def test_meters_that_warren_does_not_have(entry: str, why: str) -> None:
    result = imported(f"meters: {{m: {{meter_id: 1, entry: {entry}}}}}\nacls: {{a: [{{actions: {{allow: 1, meter: m}}}}]}}")
    assert not result.meters
    assert not result.acls
    reported = notes(result, taken=False)
    assert why in reported["meters.m"].text
    assert "acls.a" in reported


def test_uses_that_would_mean_something_else() -> None:
    lists = ", ".join(["a"] * 17)
    result = imported(f"""\
        acls:
            a: [{{cookie: 1}}]
            port: [{{in_port: 1, actions: {{allow: 1}}}}]
            vlan: [{{dl_vlan: 5, actions: {{allow: 1}}}}]
        vlans: {{v: {{vid: 5, acls_out: [vlan]}}, w: {{vid: 6, acls_in: [a]}}, x: {{acl_in: port}}, y: {{acls_in: [a, vlan]}}}}
        dps:
            s: {{dp_acls: [port]}}
            t: {{interfaces: {{1: {{acls_in: [{lists}]}}, 2: {{acls_in: [port, vlan]}}}}}}
        """)
    assert [(use.kind, use.name, use.field) for use in result.uses] == [
        ("endpoint", "2", "acls"),
        ("network", "w", "default_acl"),
    ]
    assert {note.path: note.outcome for note in result.notes if note.outcome is not IN_FORCE} == {
        "vlans.v.acls_out": NOT_IN_FORCE, "vlans.x.acl_in": NOT_IN_FORCE, "vlans.y.acls_in": NOT_IN_FORCE, "dps.s.dp_acls": NOT_IN_FORCE,
        "dps.t.interfaces.1.acls_in": NOT_IN_FORCE,
    }  # fmt: skip


def test_output_to_port_numbers_is_reported() -> None:
    result = acls("  a:\n   - {actions: {output: {port: 2}}}\n   - {actions: {mirror: 3}}\n   - {actions: {mirror: web}}")
    assert {note.line for note in result.notes if "number" in note.text} == {3, 4}
    assert len(result.acls) == 1


# ---- what FAUCET refuses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("acls:\n  web:\n    rules:\n     - {}\n     - {}\n     - {tcp_dts: 1}", "faucet.yaml:6: acls.web.rules[2].tcp_dts: 1"),
        ("acls:\n  web:\n  - rule: {tcp_dst: [1]}", "faucet.yaml:3: acls.web[0].tcp_dst"),
        ("acls:\n  web:\n  - from: {label: web}", "faucet.yaml:3: acls.web[0].from"),
        ("acls:\n  web: [{tcp_dst: null}]", "faucet.yaml:2: acls.web[0].tcp_dst"),
        ("acls:\n  web: [{tcp_dst: 1.5}]", "faucet.yaml:2: acls.web[0].tcp_dst"),
        ("acls:\n  web: [{tcp_dst: 80-90}]", "faucet.yaml:2: acls.web[0].tcp_dst"),
        ("acls:\n  web: [{actions: {meter: null, allow: 1}}]", "faucet.yaml:2: acls.web[0].actions.meter"),
        ("acls:\n  web: [{cookie: 65537}]", "faucet.yaml:2: acls.web[0].cookie"),
        ("acls:\n  web: [1]", "faucet.yaml:2: acls.web[0]"),
        ("acls:\n  web: []", "faucet.yaml:2: acls.web"),
        ("acls:\n  web: 1", "faucet.yaml:2: acls.web"),
        ("acls:\n  web: {rules: [{cookie: 1}], x: 1}", "faucet.yaml:2: acls.web.x"),
        ("acls:\n  web: {rules: [{cookie: 1}], exact_match: 1}", "faucet.yaml:2: acls.web.exact_match"),
        ("acls:\n  web: [{actions: {}}]", "faucet.yaml:2: acls.web[0].actions"),
        ("acls:\n  web: [{actions: {drop: 1}}]", "faucet.yaml:2: acls.web[0].actions.drop"),
        ("acls:\n  web: [{actions: {allow: maybe}}]", "faucet.yaml:2: acls.web[0].actions.allow"),
        ("acls:\n  web: [{actions: {output: h1}}]", "faucet.yaml:2: acls.web[0].actions.output"),
        ("acls:\n  web: [{actions: {output: {push: 1}}}]", "faucet.yaml:2: acls.web[0].actions.output.push"),
        ("acls:\n  web: [{actions: {output: [{port: 1, ports: []}]}}]", "faucet.yaml:2: acls.web[0].actions.output[0]"),
        ("acls:\n  web: [{actions: {ct: {zon: 1}}}]", "faucet.yaml:2: acls.web[0].actions.ct.zon"),
        ("version: 1", "faucet.yaml:1: version"),
        ("acl: {}", "faucet.yaml:1: acl"),
        ("acls:", "faucet.yaml:1: acls"),
        ("", "faucet.yaml:1"),
        ("- a", "faucet.yaml:1"),
        ("dps:\n  s:\n    interfaces: {1: {acls_ni: [a]}}", "faucet.yaml:3: dps.s.interfaces.1.acls_ni"),
        ("dps:\n  s:\n    interfaces: {1: {acls_in: [a]}}", "faucet.yaml:3: dps.s.interfaces.1.acls_in: 'a'"),
        ("dps:\n  s:\n    interfaces: {1: {acls_in: a}}\nacls: {a: [{cookie: 1}]}", "faucet.yaml:3: dps.s.interfaces.1.acls_in"),
        ("dps:\n  s:\n    interfaces: {1: {acls_in: [[a]]}}", "faucet.yaml:3: dps.s.interfaces.1.acls_in"),
        ("acls: {a: [{cookie: 1}]}\nvlans:\n  v: {acl_in: a,\n   acls_in: [a]}", "faucet.yaml:3: vlans.v.acl_in"),
        (
            "acls: {a: [{cookie: 1}]}\ndps: {s: {dp_acls: [a],\n interfaces: {\n 1: {acl_in: a}}}}",
            "faucet.yaml:4: dps.s.interfaces.1",
        ),
        (
            "acls: {a: [{cookie: 1}], b: {exact_match: true, rules: [{cookie: 1}]}}\nvlans: {v: {acls_out: [a, b]}}",
            "faucet.yaml:2: vlans.v.acls_out",
        ),
        (
            "acls: {a: [{actions: {meter: m}}]}\ndps: {s: {dp_acls: [a]}}",
            "faucet.yaml:1: acls.a: 'm': expected a meter",
        ),
        ("meters: {m: {meter_id: 1}}", "faucet.yaml:1: meters.m.entry"),
        ("meters: {m: {meter_id: 1, entry: {flags: KBPS}}}", "faucet.yaml:1: meters.m.entry.bands"),
        ("meters: {m: {meter_id: one, entry: {}}}", "faucet.yaml:1: meters.m.meter_id"),
        ("meters:\n m: {rate: 1}", "faucet.yaml:2: meters.m.rate"),
        ("include: a.yaml", "faucet.yaml:1: include"),
        ("include:\n- a.yaml", "faucet.yaml:2: include: 'a.yaml'"),
        ("include:\n- faucet.yaml", "faucet.yaml:2: include: 'faucet.yaml'"),
    ],
)
def test_refused_with_file_line_and_path(text: str, start: str) -> None:
    assert refused(text).startswith(start)


def test_an_error_in_an_included_file_names_that_file() -> None:
    assert refused("include: [more.yaml]", more="acls:\n  a:\n  - {dl_typ: 1}").startswith("more.yaml:3: acls.a[0].dl_typ")


# ---- YAML that is wrong, or malicious ---------------------------------------------------------------------------------

LAUGHS = "\n".join(["version: &v0 [a, b]", *(f"k{i}: &v{i} [{', '.join([f'*v{i - 1}'] * 10)}]" for i in range(1, 12))])


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (LAUGHS, 1),
        ("acls:\n a: &a\n  - *a", 3),
        ("acls: &m\n  x: 1\n  <<: *m", 3),
        ("[" * 100_000, 1),
        ("acls: " + "{a: " * 70, 1),
        ("acls: [" + "a, " * 300_000 + "a]", 1),
        ("#" * 10_000_001, 1),
        ("acls:\n a: [{cookie: 1}]\n a: [{cookie: 2}]", 3),
        ("acls:\n\t- a", 2),
        ("acls:\n ? [a]\n : b", 2),
        ("acls:\n <<: 1", 2),
        ("acls:\n - !!python/object/apply:os.system [id]", 2),
        ("acls:\n - !mine x", 2),
        ("acls:\n - !!set {a}", 2),
        ("acls:\n - !!int [1]", 2),
        ("acls:\n - 0x" + "f" * 5000, 2),
        ("acls:\n - " + "9" * 5000, 2),
        ("version: 2\n---\nversion: 2", 2),
        ("acls: *none", 1),
        ("acls: '\x00'", 1),
        ("acls: '\ud800'", 1),
    ],
    ids=range(21),
)
def test_yaml_that_is_refused(text: str, line: int) -> None:
    message = refused(text)
    file, _, rest = message.partition(":")
    assert (file, rest[:1].isdigit()) == ("faucet.yaml", True)
    if text is not LAUGHS:
        assert rest.startswith(f"{line}:")
    assert len(message) < 300


def test_the_limit_is_one_for_all_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("acl.faucet.reader.FAUCET", replace(FAUCET, values_limit=100_000))
    many = "vlans:\n" + "".join(f"  v{i}: {{vid: 1, max_hosts: 1, unicast_flood: true, name: v{i}}}\n" for i in range(9_000))
    assert imported(many).notes
    assert "at most" in refused("include: [b.yaml, c.yaml]\n" + many, b=many, c=many)


# ---- the document -----------------------------------------------------------------------------------------------------

ENDPOINTS = [
    {"id": "e1", "name": "h1", "network": "office", "hostname": "w1", "labels": {"a": "b"}},
    {"id": "e2", "name": "web", "network": "office", "hostname": "w2"},
    {"id": "e3", "name": "web", "network": "guest", "hostname": "w2"},
    {"id": "e4", "network": "guest", "hostname": "w2"},
]
NETWORKS = [{"name": "office"}, {"name": "guest"}]
HOSTS = [{"name": "sw2", "vtep": "192.0.2.2", "underlay_mtu": 1500}]


def made(text: str, endpoints: list[dict[str, Any]] = ENDPOINTS) -> tuple[dict[str, Any], list[Note]]:
    return document(imported(text), endpoints, NETWORKS, HOSTS)


def test_the_document_of_a_whole_file_can_be_applied() -> None:
    data, reported = made(OFFICE)
    assert data["endpoints"] == [{"name": "h1", "network": "office", "host": "w1", "acls": ["access-port-protect", "guest-out"]}]
    assert data["networks"] == [
        {"name": "office", "default_acl": ["office-vlan-protect"]}, {"name": "guest", "vlan_out_acl": ["guest-out"]}
    ]  # fmt: skip
    assert data["hosts"] == [{"name": "sw2", "vtep": "192.0.2.2", "acls": ["access-port-protect"]}]
    assert data["meters"][0] == {"name": "slow", "meter_id": 1, "rate": 1000, "burst": 100, "packets": False}
    assert "meter_id" not in data["meters"][1]
    assert all(note.outcome is IN_FORCE for note in reported)
    parsed = parse(json.dumps(data))
    assert [acl.name for acl in parsed.acls or ()] == ["office-vlan-protect", "guest-out", "access-port-protect"]
    for acl in parsed.acls or ():
        for rule in acl.rules:
            parse_rule(rule, acl.name)


USES = """\
    acls: {a: [{cookie: 1}], b: [{cookie: 2}]}
    vlans: {9: {acls_out: [a, b], name: guest}}
    dps:
        s:
            interfaces:
                1: {acl_in: a}
                2: {name: web, acl_in: a}
                3: {description: h1, acl_in: a}
                4: {name: h1, acls_in: [a]}
                h1: {number: 5, acl_in: b}
        t: {dp_acls: [a]}
    """


def test_a_use_needs_exactly_one_object() -> None:
    data, reported = made(USES)
    assert data["endpoints"] == [{"name": "h1", "network": "office", "host": "w1", "acls": ["a"]}]
    assert data["networks"] == [{"name": "guest", "vlan_out_acl": ["a", "b"]}]
    assert data["hosts"] == []
    assert [(note.line, note.text) for note in reported if note.outcome is not IN_FORCE] == [
        (6, "no endpoint is called 1: create it, then import again"),
        (7, "several endpoints are called web or 2: guest/web, office/web"),
        (10, "endpoint office/h1 has other ACLs already, from faucet.yaml:8"),
        (11, "no host is called t: create it, then import again"),
    ]


def test_both_lists_of_a_vlan_are_its_networks() -> None:
    data, reported = made(
        "acls: {a: [{cookie: 1}], b: [{cookie: 2}]}\nvlans: {office: {acl_in: a, acls_out: [b, a]}}\ndps: {s: {}}"
    )
    assert data["networks"] == [{"name": "office", "default_acl": ["a"], "vlan_out_acl": ["b", "a"]}]
    assert [note.outcome for note in reported] == [IN_FORCE, IN_FORCE]


@pytest.mark.parametrize(
    ("settings", "outcome"),
    [
        ("dps: {s: {interfaces: {1: {dot1x: true}}}}", NOT_IN_FORCE),
        ("dps: {s: {interfaces: {1: {dot1x: false, dot1x_acl: null}}}}", HARMLESS),
        ("dps: {s: {dot1x: {nfv_sw_port: 1}}}", NOT_IN_FORCE),
        ("dps: {s: {interfaces: {1: {enabled: false}}}}", NOT_IN_FORCE),
        ("dps: {s: {interfaces: {1: {enabled: true, native_vlan: v}}, timeout: 5}}", HARMLESS),
        ("dps: {s: {interface_ranges: {1-2: {acl_in: a}}}}", NOT_IN_FORCE),
        ("dps: {s: {interface_ranges: {1-2: {native_vlan: v}}}}", HARMLESS),
        ("acls: {a: {dot1x_assigned: true, rules: [{cookie: 1}]}}", NOT_IN_FORCE),
        ("acls: {a: [{cookie: 1}]}", NOT_IN_FORCE),  # no DP says where it belongs
        ("acls: {a: [{tcp_dst: 1}]}\ndps: {s: {}}", HARMLESS),  # nothing uses it
        ("acls: {a: [{tcp_dst: 1}]}\ndps: {s: {dp_acls: [a]}}", NOT_IN_FORCE),
        ("acls: {a: [{actions: {output: {port: 3}}}]}\ndps: {s: {interfaces: {1: {acl_in: a}}}}", NOT_IN_FORCE),
        ("meters: {m: {meter_id: 1, entry: {flags: STATS, bands: [{type: DROP, rate: 1}]}}}\ndps: {s: {}}", HARMLESS),
        ("routers: {r: {vlans: [v]}}\ndps: {s: {}}", HARMLESS),
    ],
    ids=range(14),
)
def test_policy_that_is_left_out_is_told_apart_from_what_is_harmless(settings: str, outcome: ImportPart) -> None:
    worst = max((note.outcome for note in imported(settings).notes), key=[IN_FORCE, HARMLESS, NOT_IN_FORCE].index)
    assert worst is outcome


def test_the_summary_has_three_parts() -> None:
    result = imported(USES)
    data, reported = made(USES)
    lines = list(summary([*reconsidered(result, data), *reported]))
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads == ["In force (5):", "NOT in force (4):", "Harmless (0):"]
    assert "  faucet.yaml:1: acls.a: 1 rule" in lines[: lines.index(heads[1])]
    nowhere = imported("acls: {a: [{cookie: 1}]}\nvlans: {none: {acl_in: a}}\ndps: {s: {}}")
    idle = [note.text for note in reconsidered(nowhere, document(nowhere, [], [], [])[0]) if note.outcome is HARMLESS]
    assert idle == ["1 rule, which no object of Warren's has yet"]


# ---- files ------------------------------------------------------------------------------------------------------------


def test_files_are_found_beside_the_one_that_includes_them(tmp_path: Path) -> None:
    (tmp_path / "acls.d").mkdir()
    (tmp_path / "faucet.yaml").write_text("include: [acls.d/a.yaml]\ninclude-optional: [none.yaml]")
    (tmp_path / "acls.d" / "a.yaml").write_text("include: [b.yaml]")
    (tmp_path / "acls.d" / "b.yaml").write_text("acls: {a: [{cookie: 1}]}")
    assert load(tmp_path / "faucet.yaml").acls == (FaucetAcl("a", ({"cookie": 1},), 1),)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"acls: {a: []}", "faucet.yaml:1: acls.a: []: expected a list of at least one rule"),
        (b"include: [faucet.yaml]", "faucet.yaml:1: include:"),
        (b"include: [., gone.yaml]", "faucet.yaml:1: include:"),
        (b'include: ["a\\0b"]', "faucet.yaml:1: include:"),
        (b"\xff", "not UTF-8 text"),
        (b"#" * 10_000_002, "longer than 10000000 bytes"),
    ],
    ids=range(6),
)
def test_files_that_are_refused(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "faucet.yaml").write_bytes(text)
    with pytest.raises(Failure, match="^[^\n]*$") as error:
        load(tmp_path / "faucet.yaml")
    assert message in str(error.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        load(tmp_path / "faucet.yaml")

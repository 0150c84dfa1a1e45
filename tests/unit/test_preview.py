"""The preview of a document: which pairs of endpoints it would newly allow or deny."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agent.api.preview import PairChange, differences, preview
from specs.documents.difference import diff
from specs.documents.document import parse
from specs.snapshot import snapshot
from tests.unit import worlds

WEB = [{"from": {"label": "web"}, "to": {"label": "role=db"}, "proto": "tcp", "tcp_dst": 5432, "allow_related": True}]
STATE = snapshot(
    (key, value, born)
    for born, (key, value) in enumerate(
        (
            worlds.host("h1", "198.18.0.11"),
            worlds.acl("web", WEB),
            worlds.acl("closed", [{"proto": "icmp", "actions": {"allow": 1}}]),
            worlds.network("amber", 7, v6=False, default=("closed",)),
            worlds.endpoint("shop", "amber", "h1", 2, 1, v6=False, acls=("web",), labels={"web": ""}),
            worlds.endpoint("data", "amber", "h1", 3, 2, v6=False, labels={"role": "db"}),
            worlds.endpoint("other", "amber", "h1", 4, 3, v6=False),
            worlds.network("green", 9, v6=False, mode="routed"),
            worlds.network("teal", 10, v6=False, mode="nat", out=("closed",)),
            worlds.endpoint("far", "green", "h1", 5, 4, v6=False),
            worlds.endpoint("deep", "teal", "h1", 6, 5, v6=False),
        ),
        1,
    )
)


def changed(**sections: Any) -> list[PairChange]:
    pairs, skipped = differences(STATE, preview(STATE, diff(parse(json.dumps(sections)), STATE)))
    assert skipped == 0
    return pairs


@pytest.mark.parametrize(
    ("sections", "pairs"),
    [
        ({"acls": {"web": [*WEB, {"proto": "icmp", "actions": {"allow": 1}}]}},
         [PairChange("shop", "data", ("icmp",), ()), PairChange("shop", "other", ("icmp",), ())]),
        ({"acls": {"web": [{**WEB[0], "tcp_dst": 80}]}}, [PairChange("shop", "data", ("tcp 80",), ("tcp 5432",))]),
        ({"endpoints": [{"id": "other", "network": "amber", "host": "h1", "labels": {"role": "db"}}]},
         [PairChange("shop", "other", ("tcp 5432",), ())]),
        ({"endpoints": [{"id": "data", "network": "amber", "host": "h1", "acls": ["nowhere"]}]},
         [PairChange("data", "shop", (), ("icmp",)), PairChange("data", "other", (), ("icmp",))]),
        ({"routers": [{"name": "core", "networks": ["green", "teal"]}]},
         [PairChange("far", "deep", ("icmp",), ()), PairChange("deep", "far", ("icmp", "tcp 5432", "tcp (others)", "udp (others)"), ())]),
        ({"acls": {"web": WEB}}, []),
        ({"networks": [{"name": "fresh", "ip_range": "10.9.0.0/24"}]}, []),
    ],
    ids=range(7),
)  # fmt: skip
def test_the_preview_lists_the_pairs_whose_verdict_changes(sections: dict[str, Any], pairs: list[PairChange]) -> None:
    assert set(changed(**sections)) == set(pairs)

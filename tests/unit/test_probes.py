"""Tunnel probes: losses, late answers, and answers that belong to no probe."""

from __future__ import annotations

import pytest

from controller.tunnels.probes import BUDGET, EVERY_S, MISSED, OUTSIDE, Health, Probe, Prober, ProbeTarget, tunnel_report
from pipeline.tables import PROBE_MAC

MTU, STEP_S = 1500, 0.25
PEER, OTHER = ProbeTarget("192.0.2.2"), ProbeTarget("192.0.2.3")
SMALL, FULL = 60, MTU - OUTSIDE


class Way:
    """A prober with one peer or more, and an underlay that carries frames of up to `fits` bytes, after a while."""

    def __init__(self, *vteps: str) -> None:
        self.prober, self.now, self.fits, self.delay_s = Prober(b"run-of-1"), 100.0, MTU, 0.002
        self.sent: list[tuple[float, Probe]] = []
        self.coming: list[tuple[float, bytes]] = []
        self.prober.set_targets([ProbeTarget(vtep) for vtep in vteps or ("192.0.2.2",)], MTU, self.now)

    def go(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self.now < end:
            for at, frame in [arrival for arrival in self.coming if arrival[0] <= self.now]:
                self.coming.remove((at, frame))
                self.prober.heard(frame, at)
            for probe in self.prober.tick(self.now):
                self.sent.append((self.now, probe))
                if len(probe.frame) <= self.fits:
                    self.coming.append((self.now + self.delay_s, probe.frame))
            self.now += STEP_S

    @property
    def word(self) -> str | None:
        health = self.prober.health().get(PEER)
        return health.word if health else None


def test_small_and_full_probes_are_sent_and_the_first_answers_make_a_tunnel_up() -> None:
    way = Way()
    assert way.word is None
    way.go(2 * STEP_S)
    assert way.prober.health() == {PEER: Health(True, True, pytest.approx(0.002))}
    assert [len(probe.frame) for _, probe in way.sent] == [SMALL, FULL]
    assert all(probe.frame[:6].hex(":") == PROBE_MAC for _, probe in way.sent)


def test_a_full_probe_over_ipv6_is_as_large_as_over_ipv4_on_the_underlay() -> None:
    way = Way("192.0.2.2", "2001:db8::2")
    way.go(2 * STEP_S)
    sizes = [(probe.target.vtep, len(probe.frame)) for _, probe in way.sent]
    assert sizes == [("192.0.2.2", SMALL), ("192.0.2.2", FULL), ("2001:db8::2", SMALL), ("2001:db8::2", FULL - 20)]


def test_a_broken_tunnel_becomes_down_and_up_again() -> None:
    way = Way()
    way.go(5)
    way.fits = 0
    way.go(EVERY_S)
    assert way.word == "up"  # one that is lost is no cut
    way.go((MISSED + 1) * EVERY_S)
    assert way.prober.health()[PEER] == Health(False, False, None)
    way.fits = MTU
    way.go(2 * EVERY_S)
    assert way.word == "up"


def test_a_black_hole_for_large_packets() -> None:
    way = Way()
    way.fits = FULL - 1
    way.go((MISSED + 2) * EVERY_S)
    assert way.word == "mtu"
    way.fits = FULL
    way.go(2 * EVERY_S)
    assert way.word == "up"


def test_a_tunnel_that_never_answered_is_down_only_after_enough_probes() -> None:
    way = Way()
    way.fits = 0
    way.go(MISSED * EVERY_S)
    assert way.word is None
    way.go(2 * EVERY_S)
    assert way.word == "down"


def test_a_slow_answer_is_an_answer() -> None:
    way = Way()
    way.delay_s = 2.4 * EVERY_S
    way.go(20)
    health = way.prober.health()[PEER]
    assert health.up
    assert health.rtt_s == pytest.approx(2.4 * EVERY_S)


def test_probes_missed_while_the_controller_stalled_do_not_count() -> None:
    way = Way()
    way.go(5)
    for _ in range(3 * MISSED):
        way.coming.clear()  # every answer of the time is lost with it
        way.now += 5
        way.go(STEP_S)
    assert way.word == "up"


def test_only_answers_of_this_run_count() -> None:
    way = Way()
    way.go(STEP_S)
    (_, probe), *_ = way.sent
    assert not Prober(b"run-of-2").heard(probe.frame, way.now)
    assert not way.prober.heard(probe.frame[:20], way.now)
    assert not way.prober.heard(probe.frame[:12] + b"\x08\x00" + probe.frame[14:], way.now)
    assert way.prober.heard(probe.frame, way.now)
    assert not way.prober.heard(probe.frame, way.now)  # once


def test_peers_come_and_go() -> None:
    way = Way("192.0.2.2", "192.0.2.3")
    way.go(3)
    assert set(way.prober.health()) == {PEER, OTHER}
    way.prober.set_targets((OTHER,), MTU, way.now)
    assert set(way.prober.health()) == {OTHER}
    way.sent.clear()
    way.go(3)
    assert {probe.target for _, probe in way.sent} == {OTHER}
    way.prober.forget()
    assert way.prober.health() == {}


def test_many_peers_are_all_probed_at_a_lower_rate() -> None:
    vteps = tuple(f"192.0.{n // 250}.{n % 250}" for n in range(1000))
    way = Way(*vteps)
    way.go(100)
    rates = [sum(second <= at < second + 1 for at, _ in way.sent) for second in range(130, 195)]
    assert max(rates) <= 4 * BUDGET
    assert sum(rates) / len(rates) <= 1.1 * BUDGET
    assert {health.word for health in way.prober.health().values()} == {"up"}
    assert len(way.prober.health()) == 1000


def test_the_third_unanswered_probe_in_a_row_makes_a_tunnel_down() -> None:
    """Three, as the metrics' documentation says: noticed when the fourth is due."""
    way = Way()
    way.go(5)
    way.fits = 0
    way.sent.clear()
    while way.word == "up":
        unanswered = sum(len(probe.frame) == SMALL for _, probe in way.sent)
        assert unanswered <= 3
        way.go(STEP_S)
    assert unanswered == 3


def test_each_profile_by_which_a_host_is_reached_has_a_health_of_its_own() -> None:
    way = Way()
    customers = ProbeTarget(PEER.vtep, 3)
    way.prober.set_targets((PEER, customers), MTU, way.now)
    for _ in range(40):
        way.now += STEP_S
        for probe in way.prober.tick(way.now):
            if probe.target == PEER:
                way.prober.heard(probe.frame, way.now)
    assert {target: health.word for target, health in way.prober.health().items()} == {PEER: "up", customers: "down"}


def test_a_report_names_the_worst_state_of_a_host_and_the_profiles_that_are_broken() -> None:
    words = {
        ("h2", "default"): "up",
        ("h2", "shop"): "mtu",
        ("h2", "safe"): "down",
        ("h3", "default"): "up",
        ("h4", "default"): "mtu",
    }
    assert tunnel_report(words) == {
        "known": 3,
        "broken": {"h2": "down", "h4": "mtu"},
        "profiles": {"h2": {"safe": "down", "shop": "mtu"}, "h4": {"default": "mtu"}},
    }
    assert tunnel_report({}) == {"known": 0, "broken": {}, "profiles": {}}

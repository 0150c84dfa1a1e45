"""`python -m benchmarks.peers`: what other hosts cost one host, by how many there are. No switch, no root; processor time, not the clock's."""

from __future__ import annotations

import time
from ipaddress import ip_address

from controller.compiler.compile import compile_peer
from controller.openflow.messages import packet_out
from controller.tunnels.probes import Prober
from pipeline.flow import Output, Set
from pipeline.tables import PROBE_VNI
from pipeline.tunnels import to_vtep

SECONDS = 60
TICKS_A_SECOND = 4  # as in controller/apps/tunnels.py
TARGETS_EVERY_S = 2
TUNNEL = 65279


def probing(peers: int) -> tuple[float, float]:
    """Probes a second, and the share of one processor that it takes to make them, to pack their messages and to take their answers."""
    vteps = [str(ip_address("198.18.0.0") + number) for number in range(1, peers + 1)]
    prober = Prober(b"benchmrk")
    sent, began = 0, time.process_time()
    for tick in range(SECONDS * TICKS_A_SECOND):
        now = tick / TICKS_A_SECOND
        if tick % (TARGETS_EVERY_S * TICKS_A_SECOND) == 0:
            prober.set_targets(set(vteps), 1500, now)
        for probe in prober.tick(now):
            packet_out(probe.frame, (Set("tunnel_id", PROBE_VNI), to_vtep(probe.vtep), Output(TUNNEL)))
            prober.heard(probe.frame[:64], now + 0.001)
            sent += 1
        prober.health()
    return sent / SECONDS, (time.process_time() - began) / SECONDS


def compiling(peers: int) -> tuple[int, int, float]:
    """The flows and meters for all peers, and the processor seconds that it takes to compile them."""
    began = time.process_time()
    programs = [compile_peer(str(ip_address("198.18.0.0") + number), TUNNEL) for number in range(1, peers + 1)]
    took_s = time.process_time() - began
    return sum(len(program.flows) for program in programs), sum(len(program.meters) for program in programs), took_s


if __name__ == "__main__":
    for count in (10, 50, 100, 1_000, 10_000):
        flows, meters, took_s = compiling(count)
        probes, share = probing(count)
        print(
            f"{count:>6} hosts: {flows} flows and {meters} meters, compiled in {took_s * 1000:.0f} ms; "
            f"{probes:.0f} probes a second, {share:.2%} of a processor"
        )

"""green_ovsdb REMOTE: the OVSDB client among eventlet's green threads, as in ryu-manager: twenty ports at once, while another thread counts how
often it runs. Prints "green"."""

from __future__ import annotations

import eventlet

eventlet.monkey_patch()

import sys  # noqa: E402

from ovsdb.client import Ovsdb  # noqa: E402

turns, changes = [0], []  # type: ignore[var-annotated]


def count() -> None:
    while True:
        turns[0] += 1
        eventlet.sleep(0)


def turns_during(call):  # type: ignore[no-untyped-def]
    before = turns[0]
    result = call()
    assert turns[0] > before, "the client has kept all other green threads from running"
    return result


eventlet.spawn(count)
client = Ovsdb(sys.argv[1], changes.append)
assert turns_during(lambda: client.connect(timeout_s=60))
turns_during(lambda: client.ensure_bridge("br-warren", "tcp:127.0.0.1:6653", timeout_s=60))
pool = eventlet.GreenPool()
ports = turns_during(
    lambda: list(pool.imap(lambda n: client.add_port("br-warren", f"wv{n}", n, f"e{n}", timeout_s=60), range(1, 21)))
)
assert ports == list(range(1, 21)), ports
assert client.ports_of_endpoints() == {f"e{n}": n for n in range(1, 21)}
turns_during(lambda: client.del_port("wv3", timeout_s=60))
assert "e3" not in client.ports_of_endpoints()
assert {"ports"} <= set().union(*changes)
client.close()
print("green")

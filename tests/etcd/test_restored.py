"""An etcd that was restored from a backup, emptied or replaced: the feed reads everything again, and the lineage says so."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from specs import keys
from specs.lineage import StoreOrigin, restored
from specs.store.continuity import Continuity
from specs.store.etcd import Store
from tests.etcd.conftest import Etcd
from tests.etcd.test_feed import Follower, own_etcd  # noqa: F401
from tests.waiting import LIMIT_S
from warren.errors import Unavailable


def back_up(etcd: Etcd, name: str) -> None:
    """Copy the data of an etcd that is stopped for it."""
    etcd.stop()
    shutil.copytree(etcd.directory / "data", etcd.directory / name)
    etcd.start()


def replace_data(etcd: Etcd, name: str | None) -> None:
    """Start etcd on the copy, or on nothing."""
    etcd.stop()
    shutil.rmtree(etcd.directory / "data")
    if name is not None:
        shutil.copytree(etcd.directory / name, etcd.directory / "data")
    etcd.start()


@pytest.mark.parametrize("backup", ["backup", None])
def test_the_feed_reads_everything_again_when_the_revision_has_gone_back(own_etcd: Etcd, backup: str | None) -> None:  # noqa: F811
    store = Store([own_etcd.url], timeout_s=2)
    store.put("spec/a", "1")
    back_up(own_etcd, "backup")
    for number in range(5):
        store.put("spec/b", str(number))
    follower = Follower(store)
    follower.until({"spec/a": "1", "spec/b": "4"})
    replace_data(own_etcd, backup)
    assert "read" in follower.until({"spec/a": "1"} if backup else {})
    store.put("spec/c", "3")
    follower.until({"spec/a": "1", "spec/c": "3"} if backup else {"spec/c": "3"})
    follower.end()


def test_the_feed_notices_a_restore_although_the_revision_has_grown_past_its_own(own_etcd: Etcd) -> None:  # noqa: F811
    store = Store([own_etcd.url], timeout_s=2)
    store.put("spec/a", "1")
    back_up(own_etcd, "backup")
    store.put("spec/b", "lost")
    follower = Follower(store)
    follower.until({"spec/a": "1", "spec/b": "lost"})
    channel, store._connect = store._connect, unreachable  # type: ignore[method-assign,assignment]
    replace_data(own_etcd, "backup")
    assert follower.news.get(timeout=LIMIT_S)[0] == "down"
    for number in range(9):
        Store([own_etcd.url]).put("spec/b", str(number))
    store._connect = channel  # type: ignore[method-assign]
    assert "read" in follower.until({"spec/a": "1", "spec/b": "8"})
    follower.end()


def unreachable() -> None:
    raise Unavailable("etcd", "the test has cut it off")


def origin_of(store: Store, continuity: Continuity) -> StoreOrigin:
    return continuity.origin(*store.list(keys.SPEC))


def test_the_lineage_outlives_restarts_and_is_replaced_once_after_a_restore(own_etcd: Etcd, tmp_path: Path) -> None:  # noqa: F811
    store = Store([own_etcd.url], timeout_s=2)
    first, second = (Continuity(store, tmp_path / name) for name in ("first", "second"))
    before = origin_of(store, first)
    assert origin_of(store, second).lineage == before.lineage
    back_up(own_etcd, "backup")
    for number in range(5):
        store.put("spec/b", str(number))
    for each in (first, second):
        each.remember(origin_of(store, each))
    last = first.known
    assert Continuity(store, tmp_path / "first").known == last, "a process that starts again remembers"
    assert restored(last, origin_of(store, first)) is None
    replace_data(own_etcd, "backup")
    after = origin_of(store, first)
    assert after.lineage != before.lineage
    assert "restored" in str(restored(last, after))
    for number in range(20):  # the revision passes the old one before the second process looks
        store.put("spec/c", str(number))
    later = origin_of(store, second)
    assert later.lineage == after.lineage, "one restore, one new lineage"
    assert later.revision > second.known.revision  # type: ignore[union-attr]
    assert restored(second.known, later) is not None

"""TLS towards etcd: whose certificates are accepted, and what a failed handshake says."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from specs.store import tls as store_tls
from specs.store.etcd import Store
from specs.store.tls import EtcdTls
from tests.agent.test_tls import certificates
from tests.etcd.conftest import free_port
from tests.waiting import eventually
from warren.errors import Invalid, Unavailable


class Secured:
    """An etcd that wants client certificates, the files, and a second authority that it does not know."""

    def __init__(self, directory: Path) -> None:
        self.port, self.files, self.others = free_port(), directory / "files", directory / "others"
        for files in (self.files, self.others):
            files.mkdir()
            certificates(files)
        self.url = f"https://127.0.0.1:{self.port}"
        peer = f"http://127.0.0.1:{free_port()}"
        with (directory / "etcd.log").open("wb") as log:
            self.process = subprocess.Popen(
                ["etcd", "--data-dir", str(directory / "data"), "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
                 "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
                 "--cert-file", str(self.files / "agent.pem"), "--key-file", str(self.files / "agent.key"),
                 "--trusted-ca-file", str(self.files / "ca.pem"), "--client-cert-auth"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def tls(self, files: Path, ca: Path | None) -> EtcdTls:
        return EtcdTls(str(files / "agent.pem"), str(files / "agent.key"), str(ca / "ca.pem") if ca else None)


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Secured]:
    if shutil.which("openssl") is None or shutil.which("etcd") is None:
        pytest.skip("needs openssl and etcd")
    etcd = Secured(tmp_path_factory.mktemp("secured"))
    try:
        eventually(lambda: answers(Store([etcd.url], tls=etcd.tls(etcd.files, etcd.files), timeout_s=1.0)))
        yield etcd
    finally:
        etcd.process.kill()
        etcd.process.wait()


def answers(store: Store) -> bool:
    try:
        store.put("x", "y")
    except Unavailable:
        return False
    return True


def reason(url: str, tls: EtcdTls | None) -> str:
    """Why a store is unavailable; it says so in time."""
    begin = time.monotonic()
    with pytest.raises(Unavailable) as error:
        Store([url], tls=tls, timeout_s=2.0).get("x")
    assert time.monotonic() - begin < 4.0  # a machine that is busy
    return error.value.reason


def test_a_failed_handshake_is_told(secured: Secured) -> None:
    files, others = secured.files, secured.others
    assert "certificate is not accepted" in reason(secured.url, secured.tls(files, others))
    assert "certificate is not accepted" in reason(secured.url, None)
    assert "wants a client certificate: set WARREN_ETCD_CERT" in reason(secured.url, EtcdTls(ca=str(files / "ca.pem")))
    assert "wants another client certificate" in reason(secured.url, secured.tls(others, files))
    assert "certificate is not accepted" in reason(secured.url.replace("127.0.0.1", "localhost"), secured.tls(files, files))
    assert "say https://" in reason(secured.url.replace("https", "http"), None)
    assert "refused" in reason(f"http://127.0.0.1:{free_port()}", None)


def test_an_etcd_without_tls_is_told(etcd: object, secured: Secured) -> None:
    url = etcd.url.replace("http", "https")  # type: ignore[attr-defined]
    assert "does it speak TLS" in reason(url, secured.tls(secured.files, secured.files))


def test_without_an_authority_the_systems_count(secured: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(secured.files / "ca.pem"))
    assert store_tls.system_roots() == (secured.files / "ca.pem").read_bytes()
    assert answers(Store([secured.url], tls=secured.tls(secured.files, None), timeout_s=5.0))


def test_certificates_are_read_anew(secured: Secured, tmp_path: Path) -> None:
    for file in secured.others.iterdir():
        shutil.copy(file, tmp_path)
    store = Store([secured.url], tls=secured.tls(tmp_path, tmp_path), timeout_s=1.0)
    assert not answers(store)
    for file in secured.files.iterdir():
        shutil.copy(file, tmp_path)
    store.reload()
    assert answers(store)
    (tmp_path / "agent.pem").write_text("nothing")
    with pytest.raises(Invalid, match="WARREN_ETCD_CERT"):
        store.reload()
    assert answers(store)


@pytest.mark.parametrize(("part", "name"), [("agent.pem", "CERT"), ("agent.key", "CERT"), ("ca.pem", "CA")])
@pytest.mark.parametrize("content", [None, "", "nothing", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_files_that_cannot_be_used_are_named(secured: Secured, tmp_path: Path, part: str, name: str, content: str | None) -> None:
    for file in secured.files.iterdir():
        shutil.copy(file, tmp_path)
    if content is None:
        (tmp_path / part).unlink()
    else:
        (tmp_path / part).write_text(content)
    with pytest.raises(Invalid) as error:
        secured.tls(tmp_path, tmp_path).check()
    assert error.value.path == f"WARREN_ETCD_{name}"


def test_a_key_with_a_passphrase_or_of_another_certificate_is_refused(secured: Secured, tmp_path: Path) -> None:
    key = str(tmp_path / "agent.key")
    command = ["openssl", "ec", "-in", str(secured.files / "agent.key"), "-aes256", "-passout", "pass:word", "-out", key]
    subprocess.run(command, check=True, capture_output=True)
    for wrong in (key, str(secured.others / "agent.key")):
        with pytest.raises(Invalid, match="WARREN_ETCD_CERT"):
            EtcdTls(str(secured.files / "agent.pem"), wrong).check()

"""Certificates and process records: who may do what, and that the right process is stopped."""

from __future__ import annotations

import datetime as dt
import os
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509

from maze_cluster.layout import Layout
from maze_cluster.pki import LEAVES, ensure_pki, fits
from maze_cluster.process import Record, is_alive, read_boot, read_record, read_start_time

APISERVER = next(leaf for leaf in LEAVES if leaf.name == "apiserver")


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    made = Layout(tmp_path_factory.mktemp("checkout"), Path("/cache"))
    ensure_pki(made)
    return made


def load(layout: Layout, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((layout.pki / f"{name}.crt").read_bytes())


def test_nobody_else_can_read_a_key(layout: Layout) -> None:
    files = [layout.kubeconfig, *layout.pki.iterdir()]
    assert {oct(path.stat().st_mode & 0o777) for path in files} == {"0o600"}
    assert layout.pki.stat().st_mode & 0o777 == 0o700


def test_a_second_up_keeps_the_certificates(layout: Layout) -> None:
    before = {path.name: path.read_bytes() for path in layout.pki.iterdir()}
    ensure_pki(layout)
    assert {path.name: path.read_bytes() for path in layout.pki.iterdir()} == before


def test_a_certificate_is_renewed_before_it_runs_out_or_when_its_names_change(layout: Layout) -> None:
    certificate, issuer, now = load(layout, "apiserver"), load(layout, "ca"), dt.datetime.now(dt.UTC)
    assert fits(certificate, issuer, APISERVER, now)
    assert not fits(certificate, issuer, APISERVER, now + dt.timedelta(days=340))
    assert not fits(certificate, issuer, replace(APISERVER, hosts=("localhost",)), now)
    assert not fits(certificate, load(layout, "etcd-ca"), APISERVER, now)


def test_a_cluster_certificate_does_not_open_etcd(layout: Layout) -> None:
    etcd_ca = load(layout, "etcd-ca")
    signed = {leaf.name for leaf in LEAVES if load(layout, leaf.name).issuer == etcd_ca.subject}
    assert signed == {"etcd", "apiserver-etcd"}


def test_a_recycled_pid_is_not_ours() -> None:
    started = read_start_time(os.getpid())
    assert started is not None
    mine = Record(os.getpid(), started, read_boot(), "digest")
    assert is_alive(mine)
    assert not is_alive(replace(mine, started=started - 1)), "same pid, started at another time: another process"
    assert not is_alive(replace(mine, boot="before the reboot"))
    assert not is_alive(None)


def test_a_half_written_pid_file_counts_as_none(tmp_path: Path) -> None:
    layout = Layout(tmp_path, Path("/cache"))
    layout.pids.mkdir(parents=True)
    (layout.pids / "etcd.json").write_text('{"pid": 1')
    assert read_record(layout, "etcd") is None

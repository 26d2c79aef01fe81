"""The cluster's own certificates: two authorities, one leaf for each identity, all in one private folder.

Two authorities, because whoever holds a client certificate of the cluster must not be able to open etcd with it.
Rules: the names and groups are those of the Kubernetes documentation "PKI certificates and requirements". Leaves are
made again when they run out within 30 days, when their names or addresses change, or when their authority changes.
"""

from __future__ import annotations

import base64
import datetime as dt
import ipaddress
import json
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .layout import API_SERVICE_IP, CLUSTER_DOMAIN, NODE_IP, NODE_NAME, Layout

CA_LIFETIME = dt.timedelta(days=3650)
LEAF_LIFETIME = dt.timedelta(days=365)
RENEW_BEFORE = dt.timedelta(days=30)
CLUSTER_CA = "ca"
ETCD_CA = "etcd-ca"


@dataclass(frozen=True)
class Leaf:
    """One certificate: `name` is its file name, `ca` its authority, `hosts` its DNS names and IP addresses."""

    name: str
    common_name: str
    ca: str = CLUSTER_CA
    organization: str = ""
    hosts: tuple[str, ...] = ()
    server: bool = False
    client: bool = True


LOOPBACK = ("127.0.0.1", "localhost")
API_HOSTS = (
    *LOOPBACK,
    NODE_IP,
    NODE_NAME,
    API_SERVICE_IP,
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    f"kubernetes.default.svc.{CLUSTER_DOMAIN}",
)
LEAVES = (
    Leaf("apiserver", "kube-apiserver", hosts=API_HOSTS, server=True, client=False),
    Leaf("apiserver-kubelet", "kube-apiserver-kubelet-client"),
    Leaf("apiserver-etcd", "kube-apiserver", ca=ETCD_CA),
    Leaf("etcd", "etcd", ca=ETCD_CA, hosts=LOOPBACK, server=True),
    Leaf("admin", "maze-admin", organization="system:masters"),
    Leaf("controller-manager", "system:kube-controller-manager", hosts=LOOPBACK, server=True),
    Leaf("scheduler", "system:kube-scheduler", hosts=LOOPBACK, server=True),
    Leaf("kubelet", f"system:node:{NODE_NAME}", organization="system:nodes"),
    Leaf("kubelet-server", f"system:node:{NODE_NAME}", hosts=(NODE_NAME, NODE_IP), server=True, client=False),
    Leaf("kube-proxy", "system:kube-proxy"),
)
KUBECONFIGS = {"controller-manager", "scheduler", "kubelet", "kube-proxy"}


def ensure_pki(layout: Layout) -> None:
    """Create what is missing or no longer fits under `layout.pki`, and the kubeconfigs that embed it."""
    layout.pki.mkdir(parents=True, exist_ok=True, mode=0o700)
    layout.pki.chmod(0o700)
    now = dt.datetime.now(dt.UTC)
    for authority in (CLUSTER_CA, ETCD_CA):
        if not _is_current(layout.pki, authority, None, now):
            _make_ca(layout.pki, authority, now)
    for leaf in LEAVES:
        if not _is_current(layout.pki, leaf.name, leaf, now):
            _make_leaf(layout.pki, leaf, now)
    if not (layout.pki / "service-account.key").exists():
        key = ec.generate_private_key(ec.SECP256R1())
        _write_key(layout.pki / "service-account.key", key)
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        write_private(layout.pki / "service-account.pub", public)
    for name in KUBECONFIGS:
        write_private(layout.pki / f"{name}.kubeconfig", build_kubeconfig(layout, name).encode())
    write_private(layout.kubeconfig, build_kubeconfig(layout, "admin").encode())


def build_kubeconfig(layout: Layout, name: str) -> str:
    """A kubeconfig (as JSON, which is YAML) for the identity `name`, with its certificate and key inside."""

    def inline(file: str) -> str:
        return base64.b64encode((layout.pki / file).read_bytes()).decode()

    server = f"https://127.0.0.1:{layout.api_port}"
    cluster = {"server": server, "certificate-authority-data": inline("ca.crt")}
    user = {"client-certificate-data": inline(f"{name}.crt"), "client-key-data": inline(f"{name}.key")}
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "maze", "cluster": cluster}],
            "users": [{"name": name, "user": user}],
            "contexts": [{"name": "maze", "context": {"cluster": "maze", "user": name}}],
            "current-context": "maze",
        },
        indent=1,
    )


def write_private(path: Path, data: bytes) -> None:
    """Write `data` to `path` with mode 0600 from the first byte on, atomically, and only if it differs."""
    if path.exists() and path.read_bytes() == data and path.stat().st_mode & 0o777 == 0o600:
        return
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)
    temporary.rename(path)


def fits(certificate: x509.Certificate, issuer: x509.Certificate, leaf: Leaf, now: dt.datetime) -> bool:
    """Whether `certificate` can still serve as `leaf` under `issuer` at the time `now`."""
    if certificate.not_valid_after_utc - now < RENEW_BEFORE or certificate.issuer != issuer.subject:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, TypeError, ValueError):
        return False
    return certificate.subject == _subject(leaf) and _hosts(certificate) == frozenset(leaf.hosts)


def _hosts(certificate: x509.Certificate) -> frozenset[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    return frozenset([*names.get_values_for_type(x509.DNSName), *addresses])


def _subject(leaf: Leaf) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, leaf.common_name)]
    if leaf.organization:
        parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, leaf.organization))
    return x509.Name(parts)


def _is_current(pki: Path, name: str, leaf: Leaf | None, now: dt.datetime) -> bool:
    certificate_file, key_file = pki / f"{name}.crt", pki / f"{name}.key"
    if not certificate_file.exists() or not key_file.exists():
        return False
    certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    if leaf is None:
        return certificate.not_valid_after_utc - now > RENEW_BEFORE
    return fits(certificate, x509.load_pem_x509_certificate((pki / f"{leaf.ca}.crt").read_bytes()), leaf, now)


def _make_ca(pki: Path, name: str, now: dt.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"maze-{name}")])
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    certificate = (
        _builder(subject, subject, key.public_key(), now, CA_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    _write_key(pki / f"{name}.key", key)
    write_private(pki / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _make_leaf(pki: Path, leaf: Leaf, now: dt.datetime) -> None:
    issuer = x509.load_pem_x509_certificate((pki / f"{leaf.ca}.crt").read_bytes())
    issuer_key = serialization.load_pem_private_key((pki / f"{leaf.ca}.key").read_bytes(), password=None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    key = ec.generate_private_key(ec.SECP256R1())
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH] * leaf.server + [ExtendedKeyUsageOID.CLIENT_AUTH] * leaf.client
    builder = (
        _builder(_subject(leaf), issuer.subject, key.public_key(), now, LEAF_LIFETIME)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, False, False, False, False, False, False, False, False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    )
    if leaf.hosts:
        names = [_general_name(host) for host in leaf.hosts]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    _write_key(pki / f"{leaf.name}.key", key)
    certificate = builder.sign(issuer_key, hashes.SHA256())
    write_private(pki / f"{leaf.name}.crt", certificate.public_bytes(serialization.Encoding.PEM))


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, lifetime: dt.timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=5))
        .not_valid_after(now + lifetime)
    )


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    write_private(path, pem)

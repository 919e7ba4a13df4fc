"""Trust: how a certificate leads to an authority, whatever else was presented with it."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from holon.clock import SystemClock
from holon.errors import Unauthenticated
from holon.security import trust as trusting
from holon.security.admission import Admission, Caller
from holon.security.certificates import Authority
from holon.security.identity import MAX_CHAIN
from holon.security.revocation import load_lists
from holon.security.trust import Trust
from tests.integration.worker_certificates import (
    certificate_of,
    crossed,
    intermediate,
    issue,
    revoke,
    root,
    weak_authority,
)


def now_ms() -> int:
    # Asked anew by each test: certificates are made as it runs.
    return SystemClock().now_ms()


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(one.public_bytes(Encoding.PEM) for one in certificates)


def test_a_certificate_leads_over_an_intermediate_in_whatever_order_they_come(tmp_path: Path) -> None:
    above = root(tmp_path / "root")
    between = intermediate(tmp_path / "between", above)
    leaf = certificate_of(issue(tmp_path, between))
    stranger = root(tmp_path / "stranger").certificate
    path = Trust(pem(above.certificate)).path(leaf, (stranger, between.certificate, between.certificate), now_ms())
    assert path.certificates == (leaf, between.certificate, above.certificate)


def test_a_certificate_of_an_intermediate_with_a_weak_key_is_refused(tmp_path: Path) -> None:
    above = root(tmp_path / "root")
    weak, key = weak_authority(above)
    files = root(tmp_path / "made").files
    leaf = certificate_of(issue(tmp_path, Authority(files, weak, key)))  # type: ignore[arg-type]  # RSA
    with pytest.raises(Unauthenticated, match=r"authority CN=weak, which has an RSA key of 1024 bits") as refused:
        Trust(pem(above.certificate)).path(leaf, (weak,), now_ms())
    assert refused.value.code == "CERTIFICATE_INVALID"


def test_what_stands_behind_an_authority_is_asked_too_whether_its_list_still_counts(tmp_path: Path) -> None:
    above = root(tmp_path / "root")
    between = intermediate(tmp_path / "between", above)
    leaf = certificate_of(issue(tmp_path, between))
    lists = load_lists(str(revoke(tmp_path / "crl.pem", above)), (above.certificate,), now_ms())
    trust = Trust(pem(between.certificate, above.certificate), lists)
    path = trust.path(leaf, (), now_ms())
    assert path.certificates == (leaf, between.certificate, above.certificate)
    assert trust.check(path, now_ms()) == lists[0].expires_at_ms
    with pytest.raises(Unauthenticated) as refused:
        trust.check(path, lists[0].expires_at_ms)
    assert refused.value.code == "REVOCATION_UNKNOWN"


def test_authorities_that_made_each_other_are_gone_through_once(tmp_path: Path) -> None:
    one = root(tmp_path / "one")
    other = intermediate(tmp_path / "other", one)
    again = crossed(one, other)
    leaf = certificate_of(issue(tmp_path, other))
    path = Trust(pem(other.certificate, again.certificate)).path(leaf, (), now_ms())
    assert path.certificates == (leaf, other.certificate, again.certificate)


def test_copies_of_an_authority_that_left_cost_no_more_than_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    above, other = root(tmp_path / "root"), root(tmp_path / "other")
    leaf = certificate_of(issue(tmp_path, above))
    looked: list[x509.Certificate] = []
    issued = trusting._issued

    def looking(one: x509.Certificate, by: x509.Certificate) -> bool:
        looked.append(by)
        return issued(one, by)

    monkeypatch.setattr(trusting, "_issued", looking)
    # As they are read: each an object of its own.
    copies = x509.load_pem_x509_certificates(pem(above.certificate) * MAX_CHAIN)
    with pytest.raises(Unauthenticated):
        Trust(pem(other.certificate)).path(leaf, copies, now_ms())
    assert len(looked) < 2 * MAX_CHAIN


def test_what_was_found_of_a_certificate_is_kept_once_whoever_presents_tokens_beside_it(tmp_path: Path) -> None:
    above = root(tmp_path / "root")
    files = issue(tmp_path, above)
    admission = Admission(SystemClock(), trust=Trust(pem(above.certificate)))
    caller = admission.by_certificate(files.certificate.read_bytes(), b"")
    for _ in range(100):
        admission.check(Caller(caller.identity, caller.presented))
    assert len(admission._paths) == 1
    assert len(admission._callers) == 1


def test_the_same_certificate_with_other_ones_above_it_takes_no_more_room(tmp_path: Path) -> None:
    above = root(tmp_path / "root")
    files, more = issue(tmp_path, above), [certificate_of(issue(tmp_path, above, f"w{n}")) for n in range(2, 5)]
    admission = Admission(SystemClock(), trust=Trust(pem(above.certificate)))
    for chain in (more, more[::-1], more[:1]):
        admission.by_certificate(files.certificate.read_bytes(), pem(*chain))
    assert (len(admission._paths), len(admission._callers)) == (1, 1)
    with pytest.raises(Unauthenticated, match="send only the intermediate certificates"):
        admission.by_certificate(files.certificate.read_bytes(), pem(above.certificate) * (MAX_CHAIN + 1))

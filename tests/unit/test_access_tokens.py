"""Access tokens are read strictly: what another library would take for good is refused here."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holon.clock import ManualClock
from holon.errors import ResourceExhausted, Unauthenticated
from holon.ports import MAX_DOCUMENT_BYTES
from holon.security.sts.access_tokens import AccessToken, AccessTokens, UnknownKey
from holon.security.sts.ring import MOST, Ring, Schedule

NOW = 1_800_000_000
SCHEDULE = Schedule(rotation=86_400_000, notice=20_000, lifetime=960_000)
GOOD = AccessToken("w1", ("session",), "family", "jti", NOW, NOW + 900, b"\1" * 32, "crd")
RING = Ring.new(NOW * 1000)


def tokens(ring: Ring = RING, now: int = NOW) -> AccessTokens:
    return AccessTokens("holon", lambda: ring, SCHEDULE, ManualClock(now * 1000).now_ms)


def signed(claims: dict[str, Any] | None = None, headers: dict[str, Any] | None = None, **more: Any) -> str:
    text = tokens().sign(GOOD)
    all_claims = jwt.decode(text, options={"verify_signature": False}) | (claims or {})
    kept = {name: value for name, value in all_claims.items() if value is not ...}
    all_headers = {"typ": "at+jwt", "kid": RING.keys[0].kid} | (headers or {})
    key = more.get("key", RING.keys[0].private)
    algorithm = more.get("algorithm", "EdDSA")
    return jwt.encode(kept, key, algorithm=algorithm, headers=all_headers)


def test_what_was_signed_is_read_again_and_is_the_same_text_each_time() -> None:
    ours = tokens()
    assert ours.verify(ours.sign(GOOD)) == GOOD
    assert ours.sign(GOOD) == ours.sign(GOOD) == signed()
    bare = replace(GOOD, thumbprint=None, credential="")
    assert ours.verify(ours.sign(bare)) == bare


@pytest.mark.parametrize(
    "claims",
    [
        *({name: ...} for name in ("iss", "aud", "sub", "exp", "iat", "nbf", "jti")),
        {"exp": str(NOW + 900)},
        {"exp": NOW + 900.5},
        {"exp": 10**400},
        {"exp": NOW + 86_402},
        {"exp": NOW},
        {"exp": True},
        {"iat": NOW + 31},
        {"nbf": NOW + 31},
        {"iat": str(NOW)},
        {"aud": ["holon-workers"]},
        {"aud": "another"},
        {"iss": "another"},
        {"sub": "w 1"},
        {"sub": ""},
        {"sub": "w1\0"},
        {"cnf": {}},
        {"cnf": "x"},
        {"cnf": {"x5t#S256": "AAAA"}},
        {"cnf": {"x5t#S256": 7}},
        {"scope": ["session"]},
        {"fam": 7},
    ],
)
def test_a_claim_that_is_missing_or_of_another_kind_is_refused(claims: dict[str, Any]) -> None:
    refused(signed(claims))


@pytest.mark.parametrize("headers", [{"typ": "JWT"}, {"typ": None}, {"crit": ["exp"]}, {"kid": "a b"}, {"kid": 7}])
def test_another_kind_of_token_is_refused(headers: dict[str, Any]) -> None:
    try:
        text = signed(headers=headers)
    except jwt.InvalidTokenError:
        text = spliced(headers)
    refused(text)


def spliced(headers: dict[str, Any]) -> str:
    """A token whose head PyJWT would not write."""
    _, rest = signed().split(".", 1)
    return f"{urlsafe_b64encode(json.dumps(_header() | headers).encode()).rstrip(b'=').decode()}.{rest}"


def _header_text() -> str:
    return signed().split(".")[0]


def _header() -> dict[str, Any]:
    return dict(jwt.get_unverified_header(signed()))


def test_other_algorithms_and_keys_are_refused() -> None:
    refused(signed(key="k" * 64, algorithm="HS256"))
    refused(signed(key=RING.keys[0].public.public_bytes_raw() + b"0" * 32, algorithm="HS256"))
    refused(signed(key=None, algorithm="none"))
    refused(signed(key=Ed25519PrivateKey.generate()))
    refused(spliced({"alg": "none"}))


def test_a_key_that_is_not_known_is_said_apart() -> None:
    with pytest.raises(UnknownKey):
        tokens(Ring.new(NOW * 1000)).verify(signed())


def test_a_token_over_4_kib_is_not_even_parsed() -> None:
    assert "4096" in refused(signed({"pad": "x" * 4096})).message


def test_a_token_ends_when_it_says_to_the_second() -> None:
    text = signed()
    assert tokens(now=NOW + 899).verify(text) == GOOD
    with pytest.raises(Unauthenticated) as caught:
        tokens(now=NOW + 900).verify(text)
    assert caught.value.code == "TOKEN_EXPIRED"


def test_one_that_was_read_before_ends_all_the_same() -> None:
    clock = ManualClock(NOW * 1000)
    ours = AccessTokens("holon", lambda: RING, SCHEDULE, clock.now_ms)
    ours.verify(signed())
    clock.advance(900_000)
    with pytest.raises(Unauthenticated):
        ours.verify(signed())


def refused(text: str) -> Unauthenticated:
    with pytest.raises(Unauthenticated) as caught:
        tokens().verify(text)
    assert caught.value.code == "TOKEN_INVALID"
    return caught.value


# Keys ---------------------------------------------------------------------


def test_a_new_key_is_known_before_it_signs_and_an_old_one_is_believed_after() -> None:
    start = NOW * 1000
    assert RING.due(start, SCHEDULE) is None
    soon = start + SCHEDULE.rotation - SCHEDULE.notice
    assert RING.due(soon - 1, SCHEDULE) is None
    both = RING.due(soon, SCHEDULE)
    assert both is not None
    assert both.signing(soon) == RING.keys[0]
    turn = start + SCHEDULE.rotation
    assert both.signing(turn) == both.keys[1]
    assert both.ends_at(both.keys[0], SCHEDULE) == turn + SCHEDULE.lifetime
    assert both.due(turn + SCHEDULE.lifetime - 1, SCHEDULE) is None
    last = both.due(turn + SCHEDULE.lifetime, SCHEDULE)
    assert last is not None
    assert last.keys == both.keys[1:]
    assert last.secret == RING.secret


def test_after_a_long_sleep_the_old_key_signs_until_the_new_one_is_known() -> None:
    late = NOW * 1000 + 100 * SCHEDULE.rotation
    ring = RING.due(late, SCHEDULE)
    assert ring is not None
    assert ring.signing(late) == RING.keys[0]
    assert ring.signing(late + SCHEDULE.notice) == ring.keys[1]


def test_a_key_that_is_asked_for_signs_once_all_can_know_it_and_is_made_once() -> None:
    start = NOW * 1000
    ring = RING.with_new_key(start, SCHEDULE, revoke=False)
    assert ring.keys[:1] == RING.keys
    assert ring.with_new_key(start + SCHEDULE.notice - 1, SCHEDULE, revoke=False) is ring
    assert ring.signing(start + SCHEDULE.notice - 1) == RING.keys[0]
    assert ring.signing(start + SCHEDULE.notice) == ring.keys[1]
    alone = ring.with_new_key(start, SCHEDULE, revoke=True)
    assert alone.find(RING.keys[0].kid) is None
    assert [alone.signing(at) for at in (start - 1, start)] == [alone.keys[0]] * 2


def test_what_was_made_of_an_earlier_secret_is_known_until_it_ends_or_is_revoked() -> None:
    start = NOW * 1000
    (first,) = RING.refreshing("a")
    ring = RING.with_new_secret(start, 1_000, revoke=False)
    assert ring.refreshing("a")[1:] == [first]
    ring = ring.with_new_secret(start + 500, 1_000, revoke=False)
    assert len(set(ring.refreshing("a"))) == 3
    assert ring.keyed("a") == RING.keyed("a")
    later = ring.due(start + 1_000, SCHEDULE)
    assert later is not None
    assert later.refreshing("a") == ring.refreshing("a")[:2]
    assert len(ring.with_new_secret(start, 1_000, revoke=True).refreshing("a")) == 1
    assert Ring.from_bytes(ring.to_bytes()).refreshing("a") == ring.refreshing("a")
    assert str(ring.refresh[0].secret) not in repr(ring)


def test_there_are_so_many_keys_and_secrets_and_no_more() -> None:
    ring, at = RING, NOW * 1000
    for _ in range(MOST - 1):
        at += SCHEDULE.notice
        ring = ring.with_new_key(at, SCHEDULE, revoke=False).with_new_secret(at, 1_000_000_000, revoke=False)
    assert len(ring.to_bytes()) < MAX_DOCUMENT_BYTES / 2
    with pytest.raises(ResourceExhausted, match="or revoke them"):
        ring.with_new_key(at + SCHEDULE.notice, SCHEDULE, revoke=False)
    with pytest.raises(ResourceExhausted, match="or revoke them"):
        ring.with_new_secret(at, 1_000, revoke=False)
    assert len(ring.with_new_key(at, SCHEDULE, revoke=True).keys) == 1


def test_a_ring_is_stored_and_read_and_shows_nothing_secret() -> None:
    again = Ring.from_bytes(RING.to_bytes())
    assert again.keys[0].public == RING.keys[0].public
    assert again.secret == RING.secret
    assert RING.secret.hex() not in repr(RING)
    assert str(RING.secret) not in repr(RING)
    for noise in (b"", b"\xc1", b"\x93\x02\x90\xa0"):
        with pytest.raises(ValueError, match="signing keys"):
            Ring.from_bytes(noise)

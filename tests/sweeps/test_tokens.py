"""Access tokens of any text: noise, and a good one that was changed at any place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holon.clock import ManualClock
from holon.errors import Unauthenticated
from holon.security.sts.access_tokens import AccessToken, AccessTokens, UnknownKey
from holon.security.sts.ring import Ring, Schedule

NOW = 1_800_000_000
RING = Ring.new(NOW * 1000)
TOKENS = AccessTokens("holon", lambda: RING, Schedule(86_400_000, 20_000, 960_000), ManualClock(NOW * 1000).now_ms)
GOOD = TOKENS.sign(AccessToken("w1", ("session",), "family", "jti", NOW, NOW + 900, b"\1" * 32, "crd"))
HEADER = GOOD.split(".")[0]


def refused(text: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        TOKENS.verify(text)
    assert caught.value.code == "TOKEN_INVALID"


@given(st.binary(max_size=300))
def test_noise_is_refused_and_nothing_else_is_raised(noise: bytes) -> None:
    refused(noise.decode("latin-1"))
    refused(f"ey{noise.hex()}.{noise.hex()}.x")
    refused(f"{HEADER}.{noise.hex()}.{noise.hex()}")


@given(st.data())
def test_a_token_that_was_changed_anywhere_is_refused(data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(GOOD) - 3))
    letter = data.draw(st.sampled_from("ABCxyz09-_.").filter(lambda one: one != GOOD[place]))
    with pytest.raises((Unauthenticated, UnknownKey)):
        TOKENS.verify(GOOD[:place] + letter + GOOD[place + 1 :])

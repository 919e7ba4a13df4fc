"""Tokens at the doors: closed by default, and said plainly which of the three ways a call was refused."""

from __future__ import annotations

import pytest

from holon.errors import Unauthenticated
from holon.security.access import TokenGate


def refusal(gate: TokenGate, presented: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        gate.check(presented)
    assert caught.value.code == "TOKEN_INVALID"
    return str(caught.value)


def test_the_right_token_opens_the_door() -> None:
    TokenGate("open-sesame").check("open-sesame")


@pytest.mark.parametrize("wrong", ["open-sesam", "open-sesame ", "OPEN-SESAME", "\0", "ö", "\udcff", "x" * 100_000])
def test_any_other_token_is_refused(wrong: str) -> None:
    assert refusal(TokenGate("open-sesame"), wrong) == "Unauthorized: Invalid token"


@pytest.mark.parametrize("absent", [None, ""])
def test_a_missing_token_is_named_by_its_header(absent: str | None) -> None:
    assert refusal(TokenGate("open-sesame"), absent) == "Missing X-Client-Token header"
    worker = TokenGate("open-sesame", header="X-Worker-Token", setting="GLOBAL_WORKER_TOKEN")
    assert refusal(worker, absent) == "Missing X-Worker-Token header"


@pytest.mark.parametrize("unset", [None, ""])
@pytest.mark.parametrize("presented", [None, "", "anything"])
def test_a_door_without_a_token_refuses_every_call_and_says_what_to_set(
    unset: str | None, presented: str | None
) -> None:
    assert "CLIENT_TOKEN" in refusal(TokenGate(unset), presented)


def test_a_gate_never_shows_its_token() -> None:
    gate = TokenGate("open-sesame")
    assert "sesame" not in repr(gate) + repr(vars(gate)) + refusal(gate, "wrong")

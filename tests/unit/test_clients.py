"""The table of clients: who is let in by which token, and what a new table takes back."""

from __future__ import annotations

import asyncio

import pytest

from holon.domain.client import ADMIN, DEFAULT, Client
from holon.errors import PermissionDenied, Unauthenticated
from holon.security.clients import Clients, Credential, Entry, check_role, sole
from holon.security.tokens import digest_of


def entry(name: str, *tokens: str, plan: str = "free") -> Entry:
    return Entry(Client(name, plan), frozenset(digest_of(token) for token in tokens))


def refusal(clients: Clients, presented: str | None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        clients.admit(presented)
    assert caught.value.code == "TOKEN_INVALID"
    return str(caught.value)


def test_each_token_lets_in_its_own_client() -> None:
    clients = Clients([entry("shop", "one", "two"), entry("lab", "three")])
    assert [clients.admit(token).client.name for token in ("one", "two", "three")] == ["shop", "shop", "lab"]
    assert clients.names == {"shop", "lab"}


@pytest.mark.parametrize("wrong", ["on", "one ", "ONE", "\0", "ö", "\udcff", "x" * 100_000, digest_of("one").hex()])
def test_an_unknown_token_and_a_missing_one_are_refused_differently(wrong: str) -> None:
    clients = Clients([entry("shop", "one")])
    assert refusal(clients, wrong) == "Unauthorized: Invalid token"
    assert refusal(clients, None) == refusal(clients, "") == "no client token"


def test_without_clients_every_call_is_refused_and_what_to_set_is_said() -> None:
    assert sole("") == []
    assert "CLIENT_TOKEN" in refusal(Clients(), "anything")


def test_the_one_token_of_a_node_is_its_operators() -> None:
    client = Clients(sole("the-token")).admit("the-token").client
    assert (client.name, client.plan, client.may(ADMIN), client.monthly_attempts) == (DEFAULT, "default", True, None)


def test_what_a_new_table_lacks_is_revoked_and_the_rest_goes_on_as_it_now_is() -> None:
    clients = Clients([entry("shop", "old", "kept"), entry("lab", "gone"), entry("bank", "moved")])
    old, kept, gone, moved = (clients.admit(token) for token in ("old", "kept", "gone", "moved"))
    changed = clients.replace([entry("shop", "kept", "new", "moved", plan="gold"), entry("inn", "fresh")])
    assert (changed.added, changed.removed, changed.narrowed) == (("inn",), ("bank", "lab"), ("shop",))
    assert [one.revoked for one in (old, kept, gone, moved)] == [True, False, True, True]
    assert (kept.client.plan, clients.admit("kept")) == ("gold", kept)
    assert clients.admit("new").client.name == clients.admit("moved").client.name == "shop"
    for token in ("old", "gone"):
        refusal(clients, token)


async def test_what_goes_on_while_a_token_is_good_ends_once_it_is_taken_back() -> None:
    clients = Clients([entry("shop", "kept"), entry("lab", "gone")])
    kept, gone = clients.admit("kept"), clients.admit("gone")
    async with asyncio.timeout(10), kept.while_good():
        asyncio.get_running_loop().call_soon(clients.replace, [entry("shop", "kept")])
        for _ in range(2):
            with pytest.raises(Unauthenticated, match="was removed"):
                async with gone.while_good():
                    await asyncio.Event().wait()


async def test_what_was_over_before_a_token_is_taken_back_is_not_touched() -> None:
    credential = Credential(digest_of("one"), Client("shop"))
    async with credential.while_good():
        pass
    credential.revoke()
    await asyncio.sleep(0)
    assert repr(credential) == "Credential(shop, revoked=True, watched=0)"


async def test_what_times_out_by_itself_while_a_token_is_good_says_so() -> None:
    credential = Credential(digest_of("one"), Client("shop"))
    with pytest.raises(TimeoutError):
        async with credential.while_good(), asyncio.timeout(0):
            await asyncio.Event().wait()


def test_nothing_of_a_token_is_shown() -> None:
    clients = Clients([entry("shop", "open-sesame")])
    shown = repr(clients) + repr(clients.admit("open-sesame")) + repr(entry("shop", "open-sesame"))
    shown += refusal(clients, "open-sesam")
    assert "sesam" not in shown
    assert digest_of("open-sesame").hex() not in shown
    assert repr(digest_of("open-sesame")) not in shown


def test_a_role_is_needed_only_where_it_is_named() -> None:
    check_role(Client("shop"), "", "this")
    check_role(Client("boss", roles=frozenset({ADMIN})), ADMIN, "this")
    with pytest.raises(PermissionDenied, match=r"POST /x needs the role 'admin'.*'shop'"):
        check_role(Client("shop"), ADMIN, "POST /x")

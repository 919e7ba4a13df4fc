"""Where nobody is told, whatever a URL or a name server says: into the operator's own network."""

from __future__ import annotations

import asyncio
import socket
import threading
from ipaddress import ip_network
from typing import Any

import httpcore
import pytest

from holon.domain.webhook import Receivers
from holon.ports import Heard
from holon.transports.http.webhooks import names
from holon.transports.http.webhooks.settings import DeliverySettings
from tests.integration.webhooks.conftest import Trusted
from tests.integration.webhooks.sending import GUARD, LOOPBACK, NOBODY, SECRET, leads, sending
from tests.receiver import receiving

BODY = b"{}"
# The loopback counts as public here: what stands for a receiver somewhere in the world listens there.
WORLD = Receivers(frozenset(), (ip_network("127.0.0.0/8"),))


@pytest.fixture
def dialled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that were connected to."""
    seen: list[str] = []
    real = httpcore.AnyIOBackend.connect_tcp

    async def connect(self: httpcore.AnyIOBackend, host: str, *args: Any) -> httpcore.AsyncNetworkStream:
        seen.append(host)
        return await real(self, host, *args)

    monkeypatch.setattr(httpcore.AnyIOBackend, "connect_tcp", connect)
    return seen


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.0.0.1",
        "169.254.169.254",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%1",
        "fd00::1",
        "ff02::1",
        "::ffff:127.0.0.1",
        "64:ff9b::127.0.0.1",
        "2002:7f00:1::",
        "2001:0:7f00:1::",
    ],
)
async def test_a_name_that_leads_into_somebodys_own_network_is_not_told(address: str, dialled: list[str]) -> None:
    for found in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        async with sending(NOBODY, leads(evil_example=found)) as delivery:
            answer = await delivery.send("https://evil.example/", "end_0-a", BODY)
            assert answer.heard is Heard.FORBIDDEN
            assert "not public" in answer.why
    assert not dialled


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://[::ffff:7f00:1]/",
        "https://2130706433/",
        "https://0x7f.1/",
        "http://example.com/",
        "https://user@example.com/",
        "gopher://example.com/",
    ],
)
async def test_an_address_that_was_taken_once_and_may_not_be_told_any_more_is_not(url: str, dialled: list[str]) -> None:
    async with sending(NOBODY, leads(example_com=["8.8.8.8"])) as delivery:
        assert (await delivery.send(url, "end_0-a", BODY)).heard is Heard.FORBIDDEN
    assert not dialled


async def test_a_name_that_leads_elsewhere_a_moment_later_changes_nothing(
    trusted: Trusted, dialled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    # What is connected to is what was looked at: there is no second look.
    looks: list[str] = []

    def look(name: str) -> list[str]:
        looks.append(name)
        return ["127.0.0.1"] if len(looks) == 1 else ["10.0.0.1"]

    def nobody(*_: object, **__: object) -> None:
        raise AssertionError("somebody looked up a name beside")

    monkeypatch.setattr(socket, "getaddrinfo", nobody)
    async with receiving(trusted.server) as it, sending(WORLD, look) as delivery:
        url = f"https://hooks.example:{it.port}/"
        assert (await delivery.send(url, "end_0-a", BODY)).heard is Heard.TOLD
        assert it.told[0].headers["host"] == f"hooks.example:{it.port}"
        assert (looks, dialled) == (["hooks.example"], ["127.0.0.1"])
        # A new connection is looked up anew, and is not made.
        await delivery._pool.aclose()
        assert (await delivery.send(url, "end_0-a", BODY)).heard is Heard.FORBIDDEN
    assert dialled == ["127.0.0.1"]


async def test_tls_is_with_the_name_and_not_with_whoever_is_at_the_address(trusted: Trusted) -> None:
    look = leads(hooks_example=["127.0.0.1"], other_example=["127.0.0.1"])
    async with receiving(trusted.server) as it, sending(WORLD, look) as delivery:
        assert (await delivery.send(f"https://hooks.example:{it.port}/", "end_0-a", BODY)).heard is Heard.TOLD
        answer = await delivery.send(f"https://other.example:{it.port}/", "end_0-a", BODY)
        assert answer.heard is Heard.UNREACHED
        assert "other.example" in answer.why
        assert (await delivery.send(f"https://127.0.0.1:{it.port}/", "end_0-a", BODY)).heard is Heard.TOLD
        assert len(it.told) == 2


async def test_a_certificate_of_an_authority_that_is_not_trusted_is_not_taken(untrusted: Trusted) -> None:
    async with receiving(untrusted.server) as it, sending() as delivery:
        answer = await delivery.send(f"https://localhost:{it.port}/", "end_0-a", BODY)
        assert answer.heard is Heard.UNREACHED
        assert "certificate" in answer.why
        assert not it.told


async def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as proxy, receiving() as it:
        for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        async with sending() as delivery:
            assert (await delivery.send(it.url, "end_0-a", BODY)).heard is Heard.TOLD
        assert (len(it.told), proxy.connections) == (1, 0)


async def test_another_address_of_a_name_is_tried_where_one_does_not_answer() -> None:
    async with receiving(host="127.0.0.2") as it:
        async with sending(LOOPBACK, leads(two_example=["127.0.0.1", "127.0.0.2"])) as delivery:
            # Plain HTTP is for who is listed.
            assert (await delivery.send(f"http://two.example:{it.port}/", "m", BODY)).heard is Heard.FORBIDDEN
        both = Receivers(frozenset({"two.example"}))
        async with sending(both, leads(two_example=["127.0.0.1", "127.0.0.2"])) as delivery:
            assert (await delivery.send(f"http://two.example:{it.port}/", "m", BODY)).heard is Heard.TOLD


async def test_a_name_that_is_not_found_is_not_reached() -> None:
    async with sending(NOBODY, leads(empty_example=[])) as delivery:
        answer = await delivery.send("https://nowhere.example/", "end_0-a", BODY)
        assert (answer.heard, "Name or service not known" in answer.why) == (Heard.UNREACHED, True)
        assert (await delivery.send("https://empty.example/", "end_0-a", BODY)).heard is Heard.UNREACHED


async def test_a_name_server_that_does_not_answer_holds_up_nobody_and_is_asked_once_for_a_name() -> None:
    asked: list[str] = []
    go_on = threading.Event()

    def look(name: str) -> list[str]:
        asked.append(name)
        if name.startswith("slow"):
            go_on.wait(30)
        return ["127.0.0.1"]

    try:
        async with (
            receiving() as it,
            sending(Receivers(frozenset({"quick"}), LOOPBACK.networks), look, 0.3) as delivery,
        ):
            slow = [delivery.send(f"https://slow-{n % 3}.example/", "end_0-a", BODY) for n in range(9)]
            waiting = asyncio.gather(*slow)
            assert (await delivery.send(f"http://quick:{it.port}/", "end_0-a", BODY)).heard is Heard.TOLD
            assert {answer.heard for answer in await waiting} == {Heard.LATE}
            assert sorted(asked) == ["quick", "slow-0.example", "slow-1.example", "slow-2.example"]
            # There are only so many threads for them.
            many = [delivery.send(f"https://slow-{n}.example/", "end_0-a", BODY) for n in range(2 * names.MOST)]
            heard = [answer.heard for answer in await asyncio.gather(*many)]
            assert set(heard) == {Heard.LATE, Heard.UNREACHED}
            assert len({name for name in asked if name.startswith("slow")}) == names.MOST
    finally:
        go_on.set()


async def test_a_name_that_no_thread_could_be_had_for_is_looked_up_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real, tries = threading.Thread.start, 0

    def start(thread: threading.Thread) -> None:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise RuntimeError("can't start new thread")
        real(thread)

    looked = names.Names(leads(good_example=["203.0.113.7"]))
    monkeypatch.setattr(threading.Thread, "start", start)
    with pytest.raises(names.NameUnknown, match="no thread"):
        await looked.addresses("good.example")
    async with asyncio.timeout(GUARD):
        assert [str(one) for one in await looked.addresses("good.example")] == ["203.0.113.7"]


def test_what_it_is_signed_with_is_not_shown() -> None:
    assert "k" * 8 not in repr(DeliverySettings((SECRET,), LOOPBACK, "9.9"))

"""Attacks by token: forged ones, stolen ones, those of another door, and ways around having one."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from holon.rxon.v1 import token_pb2
from tests.attack.place import (
    CODE,
    GUARD,
    HEALTH,
    JOBS,
    NODES,
    TOKENS,
    Place,
    a_place,
    bearer,
    exchanged,
    opened,
    outcome,
    said_hello,
)
from tests.integration.grpc_node import SESSION, end_of
from tests.integration.raw_http2 import GOAWAY, HEADERS, RST_STREAM, Connection

pytestmark = pytest.mark.asyncio(loop_scope="module")

INVALID = (CODE.UNAUTHENTICATED, "TOKEN_INVALID")
MINE = Ed25519PrivateKey.generate()


def part(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def signed_by_me(header: dict[str, Any], claims: dict[str, Any]) -> str:
    text = f"{part(header)}.{part(claims)}"
    return f"{text}.{part(MINE.sign(text.encode()))}"


def by_hmac(key: bytes, header: dict[str, Any], claims: dict[str, Any]) -> str:
    text = f"{part({**header, 'alg': 'HS256'})}.{part(claims)}"
    return f"{text}.{part(hmac.digest(key, text.encode(), 'sha256'))}"


def jwk() -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": part(MINE.public_key().public_bytes_raw())}


def pem_of(der: bytes) -> bytes:
    text = base64.encodebytes(der).decode()
    return f"-----BEGIN PUBLIC KEY-----\n{text}-----END PUBLIC KEY-----\n".encode()


Forged = Callable[[dict[str, Any], dict[str, Any], bytes, str], str]
FORGERIES: dict[str, Forged] = {
    "none": lambda h, c, _, __: f"{part({**h, 'alg': 'none'})}.{part(c)}.",
    "none, with a signature": lambda h, c, _, s: f"{part({**h, 'alg': 'none'})}.{part(c)}.{s}",
    "None": lambda h, c, _, s: f"{part({**h, 'alg': 'None'})}.{part(c)}.{s}",
    "no alg": lambda h, c, _, s: f"{part({'typ': h['typ'], 'kid': h['kid']})}.{part(c)}.{s}",
    "another case": lambda h, c, _, s: f"{part({**h, 'alg': 'eddsa'})}.{part(c)}.{s}",
    "HS256 with the public key": lambda h, c, key, _: by_hmac(key, h, c),
    "HS256 with its 32 bytes": lambda h, c, key, _: by_hmac(key[-32:], h, c),
    "HS256 with its PEM": lambda h, c, key, _: by_hmac(pem_of(key), h, c),
    "HS256 with nothing": lambda h, c, _, __: by_hmac(b"", h, c),
    "my key": lambda h, c, _, __: signed_by_me(h, c),
    "my key, named": lambda h, c, _, __: signed_by_me({**h, "kid": "mine"}, c),
    "my key, in the header": lambda h, c, _, __: signed_by_me({**h, "jwk": jwk()}, c),
    "my key, elsewhere": lambda h, c, _, __: signed_by_me({**h, "jku": "https://localhost/keys.json"}, c),
    "no kid": lambda h, c, _, s: f"{part({'typ': h['typ'], 'alg': h['alg']})}.{part(c)}.{s}",
    "kid of a path": lambda h, c, _, __: by_hmac(b"", {**h, "kid": "../../../../dev/null"}, c),
    "kid of a query": lambda h, c, _, __: by_hmac(b"x", {**h, "kid": "' UNION SELECT 'x"}, c),
    "kid of a number": lambda h, c, _, s: f"{part({**h, 'kid': 0})}.{part(c)}.{s}",
    "kid of a list": lambda h, c, _, s: f"{part({**h, 'kid': [h['kid']]})}.{part(c)}.{s}",
    "a long kid": lambda h, c, _, s: f"{part({**h, 'kid': 'k' * 1000})}.{part(c)}.{s}",
    "critical": lambda h, c, _, s: f"{part({**h, 'crit': ['b64'], 'b64': False})}.{part(c)}.{s}",
    "another type": lambda h, c, _, s: f"{part({**h, 'typ': 'JWT'})}.{part(c)}.{s}",
    "another worker": lambda h, c, _, s: f"{part(h)}.{part({**c, 'sub': 'w2'})}.{s}",
    "for ever": lambda h, c, _, s: f"{part(h)}.{part({**c, 'exp': 2**53})}.{s}",
    "without its certificate": lambda h, c, _, s: f"{part(h)}.{part({k: v for k, v in c.items() if k != 'cnf'})}.{s}",
    "no signature": lambda h, c, _, __: f"{part(h)}.{part(c)}.",
    "detached": lambda h, _, __, s: f"{part(h)}..{s}",
}


async def test_no_forged_access_token_is_taken_at_either_port(place: Place) -> None:
    channel, open_channel = await place.certified("w1"), await place.uncertified()
    given = await exchanged(channel, certificate=token_pb2.CertificateCredential())
    other = await exchanged(open_channel, worker_token=place.tokens["reporter"])
    answer = await channel.unary_unary(f"{TOKENS}GetKeySet")(b"", timeout=GUARD)
    (key,) = token_pb2.GetKeySetResponse.FromString(answer).keys
    for where, good in ((channel, given.access_token), (open_channel, other.access_token)):
        header, claims = jwt.get_unverified_header(good), jwt.decode(good, options={"verify_signature": False})
        forged = {name: make(header, claims, key.public_key, good.split(".")[2]) for name, make in FORGERIES.items()}
        first = good.split(".")[0]
        forged["header and another payload"] = f"{first}.{part(claims)}.{good.split('.')[2][:-2]}AA"
        for name, text in forged.items():
            assert await end_of(opened(where, bearer(text))) == INVALID, name
        wire = await said_hello(where, metadata=bearer(good))
        await wire.expect("welcome")


async def test_a_token_is_of_no_use_where_it_was_not_made_for(place: Place) -> None:
    """Tokens of clients and of workers, access and refresh tokens, of a port for certificates and of one without."""
    certified, uncertified = await place.certified("w1"), await place.uncertified()
    given = await exchanged(certified, certificate=token_pb2.CertificateCredential())
    loose = await exchanged(uncertified, worker_token=place.tokens["reporter"])
    both = await exchanged(await place.certified("reporter"), worker_token=place.tokens["reporter"])
    jobs = await place.channel(place.client_port)
    for text in (given.access_token, given.refresh_token, loose.access_token, place.tokens["reporter"]):
        for metadata in (bearer(text), (("x-client-token", text),)):
            assert await outcome(jobs, f"{JOBS}ListJobs", metadata=metadata) == INVALID
        async with place.http() as http:
            assert (await http.get("/api/v1/jobs", headers={"x-client-token": text})).status_code == 401
    for text in (*(place.tokens[name] for name in ("shop", "boss")), given.refresh_token, loose.refresh_token):
        for metadata in (bearer(text), (("x-worker-token", text),)):
            assert await end_of(opened(uncertified, metadata)) == INVALID
    # Bound to a certificate, and shown without; not bound to one, and shown beside one.
    for text in (given.access_token, both.access_token):
        assert await end_of(opened(uncertified, bearer(text))) == INVALID
    for text in (loose.access_token, place.tokens["reporter"], place.tokens["shop"]):
        assert await end_of(opened(certified, bearer(text))) == INVALID


async def test_what_begins_like_an_open_method_is_not_open(place: Place) -> None:
    for port in (place.client_port, place.ports.worker_tokens):
        channel = await place.channel(port or 0)
        assert (await outcome(channel, HEALTH))[0] is CODE.OK
        assert (await outcome(channel, "/grpc.health.v1.Health/../Check"))[0] is CODE.UNIMPLEMENTED
        closed = f"{NODES}ListWorkers" if port == place.ports.client else SESSION
        assert (await outcome(channel, closed))[0] is CODE.UNAUTHENTICATED
        for method in (
            f"/grpc.health.v1.Health/..{NODES}ListWorkers",
            f"/grpc.health.v1.Health/Check{JOBS}ListJobs",
            f"/grpc.health.v1.Health/%2e%2e{NODES}ListWorkers",
            f"/holon.rxon.v1.TokenService/..{NODES}ListWorkers",
            f"/{NODES}ListWorkers",
            NODES.lower() + "listworkers",
            f"{NODES}ListWorkers/",
            f"{NODES}ListWorkers?x=/grpc.health.v1.Health/",
        ):
            code, _ = await outcome(channel, method)
            assert code in (CODE.UNAUTHENTICATED, CODE.UNIMPLEMENTED), method


@pytest.mark.parametrize(
    "metadata",
    [
        (("X-Client-Token", "TOKEN"),),
        (("x-client-token", ""), ("x-client-token", "TOKEN")),
        (("x-client-token", "TOKEN"), ("authorization", "Bearer TOKEN")),
        (("authorization", "Basic TOKEN"),),
        (("authorization", "TOKEN"),),
        (("authorization", "Token: TOKEN"),),
        (("x-client-token-bin", "VE9LRU4"),),
        (("x-worker-token", "TOKEN"),),
        (("cookie", "x-client-token=TOKEN"),),
        (("grpcgateway-x-client-token", "TOKEN"),),
        (("x-client-token", "TOKEN "), ("x-client-token", "wrong")),
    ],
)
async def test_a_token_in_another_place_spelling_or_company_is_none(
    place: Place, metadata: tuple[tuple[str, str], ...]
) -> None:
    one = await Connection.open(place.client_port, place.ca.read_bytes())
    try:
        sent = [(name, text.replace("TOKEN", place.tokens["boss"])) for name, text in metadata]
        one.call(f"{NODES}ListWorkers", sent, message=b"")
        kind, _, _, payload = await one.until(HEADERS, RST_STREAM, GOAWAY)
        if kind == HEADERS:
            # What breaks the rules of HTTP/2 is 13, INTERNAL; a call without its token 16, UNAUTHENTICATED.
            assert re.search(rb"grpc-status\x021[36]", payload)
    finally:
        one.close()


async def test_no_refresh_token_can_be_worked_out_from_another(place: Place) -> None:
    channel = await place.certified("w1")
    given = await exchanged(channel, certificate=token_pb2.CertificateCredential())
    family, generation, mac, worker_id = given.refresh_token.removeprefix("hrt_").split(".")
    for guess in (
        f"hrt_{family}.{int(generation) + 1}.{mac}.{worker_id}",
        f"hrt_{family}.{generation}.{mac}.w2",
        f"hrt_{family[:-1]}A.{generation}.{mac}.{worker_id}",
        f"hrt_{family}.{generation}.{part(sha256(family.encode()).digest())}.{worker_id}",
        f"hrt_{family}.0{generation}.{mac}.{worker_id}",
        given.refresh_token + "\n",
        given.refresh_token.upper(),
        "hrt_" + "A" * 5000,
    ):
        if guess == given.refresh_token:
            continue
        request = token_pb2.ExchangeTokenRequest(request_id="guess", refresh_token=guess)
        assert await outcome(channel, f"{TOKENS}ExchangeToken", request) == INVALID, guess
    # None of that was taken for a use of the real one.
    await exchanged(channel, refresh_token=given.refresh_token)


async def test_who_checks_tokens_elsewhere_has_all_that_is_needed_and_nothing_that_signs(place: Place) -> None:
    given = await exchanged(await place.certified("w1"), certificate=token_pb2.CertificateCredential())
    async with place.http() as http:
        reply = await http.get("/_public/jwks.json")
    assert (reply.status_code, reply.headers["cache-control"]) == (200, "public, max-age=10")
    for key in reply.json()["keys"]:
        assert set(key) == {"kty", "crv", "use", "alg", "kid", "x"}
    named = jwt.PyJWKSet.from_dict(reply.json())[jwt.get_unverified_header(given.access_token)["kid"]]
    answer = await (await place.certified("w1")).unary_unary(f"{TOKENS}GetKeySet")(b"", timeout=GUARD)
    issuer = token_pb2.GetKeySetResponse.FromString(answer).issuer
    claims = jwt.decode(given.access_token, named, algorithms=["EdDSA"], audience="holon-workers", issuer=issuer)
    async with place.client("boss") as boss:
        assert issuer == (await boss.node.info()).holon_id
    assert claims["sub"] == "w1"


async def test_a_node_whose_workers_have_tokens_alone_serves_tls_without_an_authority(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"WORKER_AUTH_MODE": "token", "TLS_CA_PATH": "", "TLS_CRL_PATH": ""}
    async with a_place(tmp_path, **settings) as alone, alone.client("boss") as boss:
        channel = await alone.channel(alone.ports.worker)
        wire = await said_hello(channel, metadata=bearer(alone.tokens["reporter"]))
        await wire.expect("welcome")
        # A certificate is not asked for, and proves nothing.
        other = await alone.channel(alone.ports.worker, alone.worker_files("w1"))
        assert await end_of(opened(other)) == INVALID
        assert await boss.node.reload(["tls"]) == ("tls",)
        async with alone.http("shop") as http:
            assert (await http.get("/api/v1/jobs")).status_code == 200

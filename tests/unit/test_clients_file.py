"""clients.toml: what it may say, and that all that is wrong with it is told at once, by file, table and key."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from holon.domain.client import ADMIN, SCHEDULER
from holon.errors import ConfigError
from holon.security.clients import Clients, Entry
from holon.security.clients_file import Wanted, read_clients
from holon.security.tokens import digest_of, hashed
from holon.uplink import owner_of

TOKEN = "a-token-of-more-than-thirty-two-characters"
OTHER = "another-token-of-more-than-thirty-two-characters"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "clients.toml"
    path.touch(0o600)
    return path


def read(file: Path, text: str | bytes, wanted: Wanted | None = None) -> list[Entry]:
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_clients(str(file), wanted or Wanted())


def wrong(file: Path, text: str | bytes, wanted: Wanted | None = None) -> dict[str, str]:
    """What is wrong, by where it is; without the file's own path."""
    with pytest.raises(ConfigError) as caught:
        read(file, text, wanted)
    for one in caught.value.details:
        assert f"  {one.field}: {one.reason}" in caught.value.message
    return {one.field.removeprefix(str(file)).strip(): one.reason for one in caught.value.details}


def test_a_client_has_its_tokens_plan_quota_roles_and_fields_of_its_own(file: Path) -> None:
    shop, boss = read(
        file,
        f"""
        [shop]
        token = "{TOKEN}"
        tokens = ["{hashed(OTHER)}"]
        plan = "gold"
        monthly_attempts = 100
        region = "eu"
        languages = ["en", "ru"]
        params = {{limit = 5, ratio = 0.5, deep = {{on = true}}}}
        [boss]
        token_hash = "{hashed("x").upper().replace("SHA256", "sha256")}"
        roles = ["admin"]
        """,
    )
    client = Clients([shop]).admit(OTHER).client
    assert (client.name, client.plan, client.monthly_attempts, client.may(ADMIN)) == ("shop", "gold", 100, False)
    expected = {"region": "eu", "languages": ["en", "ru"], "limit": 5, "ratio": 0.5, "deep": {"on": True}}
    assert json.loads(client.params) == expected
    assert shop.digests == {digest_of(TOKEN), digest_of(OTHER)}
    assert (boss.client.plan, boss.client.monthly_attempts, boss.client.params) == ("unknown", None, b"")
    assert boss.digests == {digest_of("x")}
    assert boss.client.may(ADMIN)


def test_everything_wrong_is_told_at_once_by_table_and_key(file: Path) -> None:
    text = f"""
    stray = "{TOKEN}"
    ["a b"]
    token = "{TOKEN}"
    [missing]
    plan = 7
    [number]
    token = 12345678901234567890
    monthly_attempts = "many"
    [short]
    token = "hunter2"
    monthly_attempts = -1
    roles = ["root"]
    [hash]
    token = "sha256:abc"
    token_hash = "{TOKEN}"
    tokens = "{TOKEN}"
    params = 3
    [spaced]
    token = "spaced out {TOKEN}"
    monthly_attempts = true
    """
    found = wrong(file, text)
    assert {where: reason.split(";")[0][:40] for where, reason in found.items()} == {
        "stray": "is outside a table",
        "[a b]": "is not a valid client name",
        "[missing] token": "is missing",
        "[missing] plan": "must be 1 to 64 printable ASCII characte",
        "[number] token": "must be text, not a number",
        "[number] monthly_attempts": "must be a whole number of jobs a month, ",
        "[short] token": "has under 8 characters, which is too sho",
        "[short] monthly_attempts": "must be a whole number of jobs a month, ",
        "[short] roles": "must be a list of roles: admin",
        "[hash] token": "must be 64 hexadecimal digits after sha2",
        "[hash] token_hash": "must be sha256: and 64 hexadecimal digit",
        "[hash] tokens": "must be a list of 1 to 10 tokens or hash",
        "[hash] params": "must be a table, not a number",
        "[spaced] token": "must be 1 to 4096 visible ASCII characte",
        "[spaced] monthly_attempts": "must be a whole number of jobs a month, ",
    }


@pytest.mark.parametrize("name", [SCHEDULER, owner_of("a-parent").name])
def test_nobody_can_be_called_as_who_owns_the_jobs_of_schedules_or_of_a_parent(file: Path, name: str) -> None:
    found = wrong(file, f'["{name}"]\ntoken = "{TOKEN}"')
    assert found[f"[{name}]"].startswith("is not a valid client name")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("nan", "is nan, which JSON cannot hold"),
        ("-inf", "is -inf, which JSON cannot hold"),
        ("9223372036854775808", "is an integer of over 64 bits"),
        ('"a\\u0000b"', "has a NUL character"),
        ("2026-11-24T10:00:00Z", "is a date or a time; write it as text"),
        ("10:00:00", "is a date or a time; write it as text"),
    ],
)
def test_what_no_handler_could_be_given_is_refused_where_it_stands(file: Path, value: str, reason: str) -> None:
    text = f'[a]\ntoken = "{TOKEN}"\nlimit = {value}\nrows = [1, {value}]\nparams = {{deep = {{x = {value}}}}}'
    assert wrong(file, text) == {
        "[a] limit": reason,
        "[a] rows[1]": reason,
        "[a] params.deep.x": reason,
    }


def test_what_handlers_are_given_is_bounded(file: Path) -> None:
    deep = "[" * 40 + "]" * 40
    found = wrong(
        file, f'[a]\ntoken = "{TOKEN}"\nparams = {{deep = {deep}}}\n[b]\ntoken = "{OTHER}"\nbig = "{"x" * 20_000}"'
    )
    assert [reason for where, reason in found.items() if where.startswith("[a]")] == ["has over 16 levels of nesting"]
    assert "over the limit of 16384" in found["[b] params"]


@pytest.mark.parametrize("key", ["Token", "tokne", "token_old", "montly_attempts", "role", "parms"])
def test_a_misspelt_key_is_no_field_for_handlers(file: Path, key: str) -> None:
    found = wrong(file, f'[a]\ntoken = "{TOKEN}"\n{key} = "{OTHER}"')
    assert list(found) == [f"[a] {key}"]
    assert "put it into `params`" in found[f"[a] {key}"]
    read(file, f'[a]\ntoken = "{TOKEN}"\nparams = {{{key} = "x"}}')


def test_a_field_is_in_one_place(file: Path) -> None:
    assert list(wrong(file, f'[a]\ntoken = "{TOKEN}"\nx = 1\nparams = {{x = 1}}')) == ["[a] x"]


def test_one_token_is_one_clients(file: Path) -> None:
    found = wrong(file, f'[a]\ntoken = "{TOKEN}"\n[b]\ntoken = "{hashed(TOKEN)}"')
    assert found == {"[b] token": "is also the token of [a]; use another"}
    wanted = Wanted(taken=frozenset({digest_of(TOKEN)}), names=frozenset({"default"}))
    found = wrong(file, f'[a]\ntoken = "{TOKEN}"\n[default]\ntoken = "{OTHER}"', wanted)
    assert found["[a] token"] == "is also the token of CLIENT_TOKEN; use another"
    assert "CLIENT_TOKEN" in found["[default]"]


def test_where_clients_come_from_outside_no_token_is_short(file: Path) -> None:
    text = '[a]\ntoken = "secret-token-123"'
    read(file, text)
    assert "under 32 characters" in wrong(file, text, Wanted(exposed=True))["[a] token"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('[a\ntoken = "x"', "is not valid TOML: "),
        ('[a]\ntoken = "x"\n[a]\ntoken = "y"', "is not valid TOML: "),
        (b'[a]\ntoken = "\xff"', "is not UTF-8"),
        ("# nothing", "has no client"),
        ("[a]\nx = " + "[" * 20_000, "is "),
        ("[a]\nx = 1" + "0" * 5_000, "is not valid TOML: "),
    ],
)
def test_a_file_that_is_none_is_refused_as_a_whole(file: Path, text: str | bytes, reason: str) -> None:
    [(where, found)] = wrong(file, text).items()
    assert where == ""
    assert found.startswith(reason)


def test_a_file_that_is_missing_or_open_to_others_is_refused(file: Path) -> None:
    file.write_text(f'[a]\ntoken = "{TOKEN}"')
    file.chmod(0o644)
    for path in (file, file.with_name("none.toml")):
        with pytest.raises(ConfigError) as caught:
            read_clients(str(path), Wanted())
        [one] = caught.value.details
        assert (one.field, str(path) in one.reason) == ("CLIENTS_CONFIG_PATH", True)
    file.chmod(0o640)
    assert read_clients(str(file), Wanted(mounted=True))


def test_no_message_shows_a_token(file: Path) -> None:
    secret = "hunter2-hunter2"
    text = f"""
    stray = "{secret}"
    [a]
    token = "{secret} "
    token_hash = "{secret}"
    tokens = ["{secret}\\t", "sha256:{secret}"]
    token_x = "{secret}"
    plan = "{secret}\\n"
    roles = "{secret}"
    monthly_attempts = "{secret}"
    """
    with pytest.raises(ConfigError) as caught:
        read(file, text)
    assert secret not in caught.value.message + repr(caught.value.details)
    with pytest.raises(ConfigError) as caught:
        read(file, f'[a]\ntoken = "{secret}\n')
    assert secret not in caught.value.message

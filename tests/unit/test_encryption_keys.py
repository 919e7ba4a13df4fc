"""ENCRYPTION_KEY and ENCRYPTION_KEY_FILE: what is a key, and what is wrong is told without showing it."""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path

import pytest
from typer.testing import CliRunner

from holon.cli.app import app
from holon.config import Config, read_keys
from holon.errors import ConfigError
from holon.stores.sealing import key_id

KEY, OTHER = bytes(range(32)), bytes(range(1, 33))
TEXT, OTHER_TEXT = b64encode(KEY).decode(), b64encode(OTHER).decode()


def keys_file(place: Path, text: str, mode: int = 0o600) -> str:
    path = place / "keys"
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def refused(config: Config) -> dict[str, str]:
    with pytest.raises(ConfigError) as wrong:
        config.check()
    return {violation.field: violation.reason for violation in wrong.value.details}


def test_unset_there_is_no_key() -> None:
    assert read_keys(Config({})) == ()


def test_the_one_key_is_of_the_environment_and_hidden() -> None:
    config = Config({"ENCRYPTION_KEY": f"{TEXT}\n"})
    config.check()
    assert read_keys(config) == (KEY,)
    assert TEXT not in repr(config)
    assert config.effective()["ENCRYPTION_KEY"] == "(hidden)"


def test_a_file_has_a_key_on_each_line_in_order(tmp_path: Path) -> None:
    path = keys_file(tmp_path, f"# of November\n{OTHER_TEXT}  # the new one\n\n{TEXT}\n")
    config = Config({"ENCRYPTION_KEY_FILE": path})
    config.check()
    assert read_keys(config) == (OTHER, KEY)


@pytest.mark.parametrize("text", ["s3cr3t", TEXT[:-4], f"{TEXT}{TEXT}", "é" * 44, b64encode(b"a" * 32).decode()])
def test_what_is_no_key_is_refused_and_not_shown(tmp_path: Path, text: str) -> None:
    config = Config({"ENCRYPTION_KEY": text})
    assert "holon keys new" in refused(config)["ENCRYPTION_KEY"]
    config = Config({"ENCRYPTION_KEY_FILE": keys_file(tmp_path, f"{TEXT}\n{text}\n")})
    reason = refused(config)["ENCRYPTION_KEY_FILE"]
    assert "line 2" in reason
    assert text not in reason


@pytest.mark.parametrize(
    ("text", "why"), [("\n# none\n", "has no key"), (f"{TEXT}\n{TEXT}\n", "twice"), ("", "is empty")]
)
def test_a_file_that_makes_no_sense_is_refused(tmp_path: Path, text: str, why: str) -> None:
    assert why in refused(Config({"ENCRYPTION_KEY_FILE": keys_file(tmp_path, text)}))["ENCRYPTION_KEY_FILE"]


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    path = keys_file(tmp_path, TEXT, mode=0o644)
    assert "chmod 600" in refused(Config({"ENCRYPTION_KEY_FILE": path}))["ENCRYPTION_KEY_FILE"]


def test_both_at_once_are_refused(tmp_path: Path) -> None:
    path = keys_file(tmp_path, TEXT)
    assert (
        "together with" in refused(Config({"ENCRYPTION_KEY": TEXT, "ENCRYPTION_KEY_FILE": path}))["ENCRYPTION_KEY_FILE"]
    )


def test_the_command_line_makes_keys_and_tells_what_they_are_known_by() -> None:
    made = CliRunner().invoke(app, ["keys", "new"])
    assert made.exit_code == 0
    [key] = read_keys(Config({"ENCRYPTION_KEY": made.stdout}))
    told = json.loads(CliRunner().invoke(app, ["keys", "new", "--json"]).stdout)
    [other] = read_keys(Config({"ENCRYPTION_KEY": told["key"]}))
    assert told["id"] == key_id(other) != key_id(key)

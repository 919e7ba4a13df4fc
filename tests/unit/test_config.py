"""Settings: where they come from, what is refused, and that all of it is said at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from holon.config import Config, Setting
from holon.errors import ConfigError
from tests.unit.configs import reasons

REPOSITORY = Path(__file__).parents[2]


def test_the_defaults_are_sound_and_open_nothing_to_the_outside() -> None:
    config = Config({})
    config.check()
    assert (config.API_HOST, config.GRPC_HOST, config.CLIENT_GRPC_HOST) == ("127.0.0.1",) * 3
    assert (config.API_PORT, config.GRPC_PORT, config.CLIENT_GRPC_PORT) == (8080, 7700, 7701)
    assert (config.CLIENT_TOKEN, config.GLOBAL_WORKER_TOKEN, config.REUSE_PORT) == ("", "", False)
    assert config.STORAGE_URI == "sqlite:///.holon/holon.db"
    assert config.job_retention == 7 * 86_400


def test_ended_jobs_are_kept_for_a_week_and_on_redis_for_a_day_unless_told_otherwise() -> None:
    assert Config({"STORAGE_URI": "redis://host"}).job_retention == 86_400
    assert Config({"STORAGE_URI": "unix:///socket", "JOB_RETENTION": "5"}).job_retention == 5


def test_an_instance_id_is_made_for_each_node_unless_one_is_given() -> None:
    assert Config({}).INSTANCE_ID != Config({}).INSTANCE_ID
    assert Config({"INSTANCE_ID": "node-1"}).INSTANCE_ID == "node-1"


def test_the_environment_sets_and_code_overrides_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_PORT", "9001")
    monkeypatch.setenv("GRPC_PORT", "9002")
    config = Config(GRPC_PORT=9003)
    config.CLIENT_TOKEN = "my-secret-client-token"
    assert (config.API_PORT, config.GRPC_PORT, config.CLIENT_TOKEN) == (9001, 9003, "my-secret-client-token")
    config.check()


def test_an_empty_variable_counts_as_unset() -> None:
    config = Config({"API_PORT": "", "TZ": ""})
    config.check()
    assert (config.API_PORT, config.TZ) == (8080, "UTC")


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("Yes", True), ("off", False), ("0", False)])
def test_switches_read_the_usual_words(text: str, value: bool) -> None:
    assert Config({"REUSE_PORT": text}).REUSE_PORT is value


def test_text_given_by_code_is_read_as_the_environment_would_be() -> None:
    assert Config({}, API_PORT="9000").API_PORT == 9000
    assert Config({}, WORKER_TIMEOUT_SECONDS=5).WORKER_TIMEOUT_SECONDS == 5.0


def test_all_problems_are_reported_at_once_by_name() -> None:
    config = Config({"API_PORT": "http", "GRPC_PORT": "70000", "LOG_LEVEL": "LOUD", "TZ": "Mars/Olympus"})
    config.JOB_MAX_RETRIES = -1
    config.BLUEPRINTS_DIR = "/no/such/folder"
    assert set(reasons(config)) == {
        "API_PORT", "GRPC_PORT", "LOG_LEVEL", "TZ", "JOB_MAX_RETRIES", "BLUEPRINTS_DIR",
    }  # fmt: skip


def test_a_wrong_value_is_forgiven_once_it_is_replaced() -> None:
    config = Config({"API_PORT": "http"})
    config.API_PORT = 8081
    config.check()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("API_PORT", "80.5"), ("API_PORT", -1), ("API_PORT", True), ("WORKER_TIMEOUT_SECONDS", "nan"),
        ("WORKER_TIMEOUT_SECONDS", "inf"), ("WORKER_TIMEOUT_SECONDS", 0), ("JOB_RETENTION", "7d"),
        ("TASK_OFFER_SECONDS", "0.1"),
        ("JOB_RETENTION", "1_000"), ("JOB_RETENTION", "\uff11\uff12"), ("PARENT_WORKER_ID", "a b"),
        ("REUSE_PORT", "maybe"), ("REUSE_PORT", 1), ("STATE_MAX_BYTES", 10), ("API_HOST", ""), ("INSTANCE_ID", "a b"),
        ("GRPC_HOST", "http://127.0.0.1"), ("GRPC_HOST", "[::1]"), ("LOG_FORMAT", "xml"), ("TZ", "../../etc/passwd"),
    ],
)  # fmt: skip
def test_a_value_out_of_its_kind_or_bounds_is_refused(name: str, value: str | float) -> None:
    assert set(reasons(Config({}, **{name: value}))) == {name}


def test_a_name_that_is_no_setting_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(ConfigError, match="did you mean API_PORT"):
        Config({}, API_PROT=1)
    with pytest.raises(ConfigError, match="did you mean CLIENT_TOKEN"):
        Config({}).CLIENT_TOKN = "x"  # type: ignore[attr-defined]  # the mistake under test


def test_a_frozen_configuration_refuses_changes_and_a_wrong_one_does_not_freeze() -> None:
    config = Config({"API_PORT": "http"})
    with pytest.raises(ConfigError):
        config.freeze()
    config.API_PORT = 8080
    assert config.freeze() is config
    with pytest.raises(ConfigError, match="API_PORT cannot change"):
        config.API_PORT = 1


def test_secrets_show_nowhere() -> None:
    config = Config({"CLIENT_TOKEN": "hush hush", "GLOBAL_WORKER_TOKEN": "also-hush"})
    shown = repr(config) + str(config.effective()) + str(reasons(config))
    assert "hush" not in shown
    assert config.effective()["CLIENT_TOKEN"] == "(hidden)"
    assert Config({}).effective()["CLIENT_TOKEN"] == ""


def test_times_that_contradict_each_other_are_refused() -> None:
    assert set(reasons(Config({"HEARTBEAT_INTERVAL_SECONDS": "15"}))) == {"WORKER_SILENCE_SECONDS"}
    assert set(reasons(Config({"TASK_LEASE_SECONDS": "5"}))) == {"TASK_LEASE_SECONDS"}
    Config({"HEARTBEAT_INTERVAL_SECONDS": "1", "WORKER_SILENCE_SECONDS": "3", "TASK_LEASE_SECONDS": "5"}).check()
    assert "RETRY_BACKOFF_MAX_SECONDS" in reasons(Config({"RETRY_BACKOFF_MAX_SECONDS": "0.5"}))
    for size in ("4194303", "4177921"):
        assert "INLINE_PAYLOAD_MAX_BYTES" in reasons(Config({"INLINE_PAYLOAD_MAX_BYTES": size}))
    Config({"INLINE_PAYLOAD_MAX_BYTES": "4177920"}).check()


def test_the_documentation_lists_every_setting_as_it_is() -> None:
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if re.match(r"\| `[A-Z0-9_]+` \|", line)]
    assert sorted(rows) == sorted(documented(setting) for setting in Config.settings().values())


def test_the_examples_of_the_documentation_run() -> None:
    page = (REPOSITORY / "docs/configuration.md").read_text(encoding="utf-8")
    with pytest.raises(ConfigError) as wrong:
        Config({"API_PORT": "http", "HEARTBEAT_INTERVAL_SECONDS": "15"}).check()
    assert wrong.value.message in page
    code = page.partition("```python\n")[2].partition("```")[0]
    names: dict[str, Config] = {}
    exec(code, names)
    assert names["config"].API_PORT == 9080


def documented(setting: Setting) -> str:
    default = str(setting.default).lower() if setting.kind is bool else f"{setting.default}"
    default = f"{setting.default:.15g}" if setting.kind is float else default
    values = ", ".join(f"`{choice}`" for choice in setting.choices)
    if setting.kind is bool:
        values = "`true`, `false`"
    elif setting.minimum is not None and setting.maximum is not None:
        values = f"{setting.minimum:.15g} to {setting.maximum:.15g} {setting.unit}".strip()
    return f"| `{setting.name}` | {f'`{default}`' if default else ''} | {values} | {setting.about} |"

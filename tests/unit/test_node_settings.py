"""Every setting arrives in the room that it is for. The rooms' own defaults are the same, so only others show it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from holon.clock import SystemClock
from holon.config import Config
from holon.config.setting import Value
from holon.config.values import bounds_problem
from holon.domain.tree import Disclose
from holon.engine.rates import Rates
from holon.engine.reloading import Reloading
from holon.node import settings as node
from holon.node.parts import parts_of
from holon.telemetry.audit import By, note
from holon.wire.address import parse_url

ROOMS: dict[str, Callable[[Config], Any]] = {
    "tls": node.tls_paths,
    "parent_tls": node.parent_tls_paths,
    "store": node.store_settings,
    "engine": node.engine_settings,
    "workers": node.worker_door_settings,
    "uplink": node.uplink_settings,
    "tokens": lambda config: node.token_settings(config, "holon"),
    "clients": node.client_door_settings,
    "http": node.http_settings,
    "traces": node.trace_resource,
    "files": node.s3_settings,
    "webhooks": lambda config: node.delivery_settings(config, b""),
}
SECRET = b64encode(bytes(range(32))).decode()

# A setting, a value that is not its default, and what is then found where.
ARRIVES: list[tuple[str, Value, dict[str, object]]] = [
    (
        "INSTANCE_ID",
        "n7",
        {"store.node_id": "n7", "workers.node_id": "n7", "uplink.node": "n7", "traces.service.instance.id": "n7"},
    ),
    ("ENABLE_CLIENT_API", False, {"http.client_api": False, "uplink.share": 1.0}),
    ("API_HOST", "127.0.0.7", {"http.host": "127.0.0.7"}),
    ("API_PORT", 4001, {"http.port": 4001}),
    ("API_BEHIND_PROXY", True, {"http.behind_proxy": True}),
    ("API_DOCS", False, {"http.docs": False}),
    ("GRPC_HOST", "127.0.0.7", {"workers.host": "127.0.0.7"}),
    ("GRPC_PORT", 4001, {"workers.port": 4001}),
    ("WORKER_AUTH_MODE", "mtls", {"workers.certificates": True}),
    ("WORKER_TOKEN_PORT", 4001, {"workers.token_port": 4001}),
    ("ACCESS_TOKEN_SECONDS", 11, {"tokens.access": 11_000}),
    ("REFRESH_TOKEN_SECONDS", 70, {"tokens.refresh": 70_000}),
    ("SIGNING_KEY_SECONDS", 3601, {"tokens.rotation": 3_601_000}),
    ("CLIENT_GRPC_HOST", "127.0.0.7", {"clients.host": "127.0.0.7"}),
    ("CLIENT_GRPC_PORT", 4001, {"clients.port": 4001}),
    ("GRPC_REFLECTION", True, {"workers.reflection": True, "clients.reflection": True}),
    ("REUSE_PORT", True, {"workers.reuse_port": True, "clients.reuse_port": True, "http.reuse_port": True}),
    ("TLS_CERT_PATH", "c.pem", {"tls.certificate": "c.pem", "uplink.credentials.certificate": Path("c.pem")}),
    ("TLS_KEY_PATH", "k.pem", {"tls.key": "k.pem", "uplink.credentials.key": Path("k.pem")}),
    ("TLS_CA_PATH", "ca.pem", {"tls.authorities": "ca.pem", "uplink.credentials.ca": Path("ca.pem")}),
    ("TLS_CRL_PATH", "lists", {"tls.lists": "lists"}),
    ("TLS_CRL_EXPIRED", "keep", {"tls.strict": False}),
    ("TLS_REQUIRE_CLIENT_CERT", True, {"http.client_certificates": True}),
    ("SECRETS_MOUNTED", True, {"tls.mounted": True, "parent_tls.mounted": True, "uplink.credentials.mounted": True}),
    ("PARENT_URL", "grpcs://up:1", {"uplink.urls": (parse_url("grpcs://up:1", 0),)}),
    ("PARENT_WORKER_ID", "w7", {"uplink.worker_id": "w7"}),
    ("PARENT_TOKEN", "secret", {"uplink.credentials.token": "secret"}),
    (
        "PARENT_TLS_CERT_PATH",
        "c.pem",
        {"parent_tls.certificate": "c.pem", "uplink.credentials.certificate": Path("c.pem")},
    ),
    ("PARENT_TLS_KEY_PATH", "k.pem", {"parent_tls.key": "k.pem", "uplink.credentials.key": Path("k.pem")}),
    ("PARENT_TLS_CA_PATH", "ca.pem", {"parent_tls.authorities": "ca.pem", "uplink.credentials.ca": Path("ca.pem")}),
    ("HOLON_LABEL", "Berlin", {"uplink.label": "Berlin"}),
    ("UPLINK_MAX_JOBS", 7, {"uplink.max_jobs": 7}),
    ("UPLINK_SKILLS", "ocr,resize", {"uplink.skills": ("ocr", "resize")}),
    ("UPLINK_ALLOWED_SKILLS", "ocr", {"uplink.allowed_skills": ("ocr",)}),
    ("UPLINK_SHARE", 0.25, {"uplink.share": 0.25}),
    ("UPLINK_MAX_PRIORITY", 7.0, {"uplink.max_priority": 7.0}),
    ("ESCALATE_AFTER", 7.0, {"uplink.escalate_after": 7.0}),
    ("CLEANUP_TIMEOUT", 7.0, {"uplink.cleanup": 7.0, "engine.cleanup": 7_000}),
    ("DISCLOSE", "none", {"uplink.disclose": Disclose.NONE}),
    ("CHILD_LEASE", 7.0, {"workers.child_lease": 7.0}),
    ("CHILD_RESULT_TIMEOUT", 7.0, {"workers.child_execution": 7.0, "uplink.result_timeout": 7_000}),
    ("STORAGE_URI", "redis://127.0.0.1", {"engine.job_retention": 86_400_000}),
    ("JOB_RETENTION", 7.0, {"engine.job_retention": 7_000}),
    ("JOB_RETENTION_COUNT", 7, {"engine.job_retention_count": 7}),
    ("HISTORY_DATABASE_URI", "postgresql://h/d", {"store.history_backlog": 256 * 2**20}),
    ("HISTORY_BACKLOG", 4096, {"store.history_backlog": 4096}),
    ("HISTORY_RETENTION", 7.0, {"engine.history_retention": 7_000}),
    ("EXECUTOR_MAX_CONCURRENT_JOBS", 7, {"engine.concurrent_jobs": 7}),
    ("DISPATCHER_SOFT_LIMIT", 7, {"engine.soft_limit": 7}),
    ("REPUTATION_MIN_THRESHOLD", 0.7, {"engine.reputation.threshold": 0.7}),
    ("REPUTATION_PENALTY_CONTRACT_VIOLATION", 0.7, {"engine.reputation.violation": 0.7}),
    ("REPUTATION_PENALTY_TASK_FAILURE", 0.7, {"engine.reputation.failure": 0.7}),
    ("REPUTATION_REWARD_SUCCESS", 0.7, {"engine.reputation.success": 0.7}),
    ("JOB_MAX_RETRIES", 7, {"engine.max_retries": 7}),
    ("RETRY_BACKOFF_MIN_SECONDS", 7.0, {"engine.retry_first": 7_000}),
    ("RETRY_BACKOFF_MAX_SECONDS", 7.0, {"engine.retry_longest": 7_000}),
    ("MAX_TRANSITIONS_PER_JOB", 7, {"engine.max_transitions": 7}),
    ("STRICT_EVENT_VALIDATION", False, {"engine.strict_events": False}),
    ("WORKER_TIMEOUT_SECONDS", 7.0, {"store.execution": 7_000}),
    ("WORKER_HELLO_SECONDS", 7.0, {"workers.hello": 7.0}),
    ("HEARTBEAT_INTERVAL_SECONDS", 7.0, {"workers.heartbeat": 7.0}),
    ("WORKER_SILENCE_SECONDS", 7.0, {"workers.silence": 7.0}),
    ("TASK_LEASE_SECONDS", 7.0, {"store.lease": 7_000, "workers.lease": 7.0}),
    ("TASK_OFFER_SECONDS", 7.0, {"store.offer": 7_000, "workers.offer": 7.0}),
    ("RATE_LIMITING_ENABLED", True, {"engine.rates": Rates()}),
    ("RATE_LIMIT_LIMIT", 7, {"engine.rates.limit": 7}),
    ("RATE_LIMIT_HEARTBEAT_LIMIT", 7, {"engine.rates.heartbeats": 7}),
    ("RATE_LIMIT_PERIOD", 7.0, {"engine.rates.period": 7_000}),
    ("WEBHOOK_SECRET", SECRET, {"webhooks.secrets": (bytes(range(32)),)}),
    ("WEBHOOK_ALLOWED_HOSTS", "hooks", {"engine.receivers.hosts": {"hooks"}, "webhooks.receivers.hosts": {"hooks"}}),
    ("WEBHOOK_GIVE_UP_SECONDS", 7.0, {"engine.webhook_give_up": 7_000}),
    ("STATE_MAX_BYTES", 4096, {"store.max_state_bytes": 4096}),
    ("INLINE_PAYLOAD_MAX_BYTES", 4096, {"engine.max_payload": 4096, "workers.max_payload_bytes": 4096}),
    ("GRPC_MESSAGE_MAX_BYTES", 4096, {"workers.max_message_bytes": 4096, "clients.max_message_bytes": 4096}),
    ("HTTP_BODY_MAX_BYTES", 4096, {"http.max_body": 4096}),
    ("S3_ENDPOINT_URL", "https://h", {"files.endpoint": "https://h"}),
    ("S3_ACCESS_KEY", "id", {"files.access_key": "id"}),
    ("S3_SECRET_KEY", "key", {"files.secret_key": "key"}),
    ("S3_REGION", "r", {"files.region": "r"}),
    ("S3_DEFAULT_BUCKET", "bucket", {"files.bucket": "bucket"}),
    ("S3_MAX_CONCURRENCY", 7, {"files.concurrency": 7}),
    ("OTEL_SERVICE_NAME", "mill", {"traces.service.name": "mill"}),
]

# What is set beside a setting that says nothing alone.
WITH: dict[str, dict[str, Value]] = {
    "WORKER_TOKEN_PORT": {"WORKER_AUTH_MODE": "mixed"},
    "PARENT_TLS_KEY_PATH": {"PARENT_TLS_CERT_PATH": "c.pem"},
    "HISTORY_BACKLOG": {"HISTORY_DATABASE_URI": "postgresql://h/d"},
    "RATE_LIMIT_LIMIT": {"RATE_LIMITING_ENABLED": True},
    "RATE_LIMIT_HEARTBEAT_LIMIT": {"RATE_LIMITING_ENABLED": True},
    "RATE_LIMIT_PERIOD": {"RATE_LIMITING_ENABLED": True},
}

# Those that are read where they are used, and which test has them set.
ELSEWHERE = {
    "ADMIN_SOCKET": "integration/access/test_audit_log.py",
    "WORKERS_CONFIG_PATH": "integration/test_worker_reload.py",
    "CLIENT_TOKEN": "e2e/test_cli_serve.py",
    "CLIENTS_CONFIG_PATH": "integration/access/place.py",
    "SCHEDULES_CONFIG_PATH": "integration/test_schedules.py",
    "GLOBAL_WORKER_TOKEN": "integration/cases/test_workers.py",
    "TLS_ENABLED": "e2e/test_cli_serve.py",
    "REDIS_HOST": "unit/test_config_storage.py",
    "REDIS_PORT": "unit/test_config_storage.py",
    "REDIS_DB": "unit/test_config_storage.py",
    "ENCRYPTION_KEY": "integration/test_encryption.py",
    "ENCRYPTION_KEY_FILE": "integration/test_encryption.py",
    "BLUEPRINTS_DIR": "e2e/test_cli_local.py",
    "S3_AUTO_CLEANUP": "integration/cases/test_files.py",
    "TASK_FILES_DIR": "integration/cases/test_files.py",
    "SHUTDOWN_GRACE_SECONDS": "integration/test_client_node.py",
    "LOG_LEVEL": "e2e/test_log.py",
    "LOG_FORMAT": "e2e/test_log.py",
    "TZ": "e2e/test_log.py",
    "OTEL_EXPORTER_OTLP_ENDPOINT": "integration/test_tracing_spans.py",
    "MAX_HOLARCHY_DEPTH": "unit/test_node_settings.py",
    "AUDIT_LOG_PATH": "unit/test_node_settings.py",
}


def found(config: Config, where: str) -> object:
    """What the room has under a dotted name."""
    room, _, name = where.partition(".")
    made = ROOMS[room](config)
    return made[name] if isinstance(made, dict) else reduce(getattr, name.split("."), made)


@pytest.mark.parametrize(("setting", "value", "arrives"), ARRIVES, ids=[row[0] for row in ARRIVES])
def test_a_setting_arrives_where_it_is_for(setting: str, value: Value, arrives: dict[str, object]) -> None:
    assert bounds_problem(Config.settings()[setting], value) is None
    beside = WITH.get(setting, {})
    without, config = Config({}, **beside), Config({}, **beside, **{setting: value})
    assert {where: found(config, where) for where in arrives} == arrives
    assert [where for where, expected in arrives.items() if found(without, where) == expected] == []


def test_no_setting_is_left_out() -> None:
    assert sorted([row[0] for row in ARRIVES] + list(ELSEWHERE)) == sorted(Config.settings())
    tests = Path(__file__).parents[1]
    assert [name for name, file in ELSEWHERE.items() if name not in (tests / file).read_text("utf-8")] == []


async def test_the_parts_of_a_node_have_the_limit_of_its_holarchy_and_the_file_of_its_audit_log(tmp_path: Path) -> None:
    config = Config({}, STORAGE_URI="memory://", MAX_HOLARCHY_DEPTH=3, AUDIT_LOG_PATH=str(tmp_path / "audit.log"))
    async with parts_of(config, (), None, SystemClock(), Reloading()) as parts:
        assert parts.holarchy.max_depth == 3
        note("job_cancelled", By("http", "shop"), on="0-a")
    assert "shop" in (tmp_path / "audit.log").read_text("utf-8")

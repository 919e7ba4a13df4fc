"""The table of settings: each with its default, its meaning, its unit and its bounds."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import cast

from holon.config.setting import DAY_SECONDS, MIB, Kind, Setting
from holon.config.setting import host as _host
from holon.config.setting import port as _port
from holon.config.setting import seconds as _seconds
from holon.config.setting import setting as _setting
from holon.config.setting import size as _bytes

_KINDS: dict[str, Kind] = {"str": str, "int": int, "float": float, "bool": bool}


@dataclass(init=False, repr=False, eq=False)
class Settings:
    """Every setting of the node, in the order of the documentation."""

    INSTANCE_ID: str = _setting(
        "", "Name of this node, unique in its holon. If unset, the node makes one from the host's name"
    )

    ENABLE_CLIENT_API: bool = _setting(
        True,
        "Serve clients. If `false`, the node works for its parent only, and serves workers, health and metrics",
    )
    ADMIN_SOCKET: str = _setting(
        "",
        "Path of a unix socket, through which the operator of this machine manages jobs and workers without a token. "
        "If unset, there is no socket",
    )
    API_HOST: str = _host("Address of the HTTP API")
    API_PORT: int = _port(8080, "Port of the HTTP API")
    API_BEHIND_PROXY: bool = _setting(
        False, "A proxy in front ends TLS, so the HTTP API may listen on other addresses than loopback"
    )
    API_DOCS: bool = _setting(
        True, "Show `/_public/docs` and `/_public/openapi.json`: every route, and the input of each blueprint"
    )
    GRPC_HOST: str = _host("Address of the worker port")
    GRPC_PORT: int = _port(7700, "Worker port")
    WORKER_AUTH_MODE: str = _setting(
        "auto",
        "How workers authenticate: with certificates (`mtls`), with tokens (`token`), or both (`mixed`: certificates "
        "at `GRPC_PORT`, tokens at `WORKER_TOKEN_PORT`). `auto` is `mtls` with TLS, `token` without",
        choices=("auto", "mtls", "token", "mixed"),
    )
    WORKER_TOKEN_PORT: int = _port(7702, "Second worker port, for tokens, if `WORKER_AUTH_MODE` is `mixed`")
    ACCESS_TOKEN_SECONDS: float = _seconds(
        900, "How long a worker's access token is valid", minimum=10, maximum=DAY_SECONDS
    )
    REFRESH_TOKEN_SECONDS: float = _seconds(
        DAY_SECONDS,
        "How long a refresh token is valid. After that, the worker presents its first credential again",
        minimum=60,
    )
    SIGNING_KEY_SECONDS: float = _seconds(
        30 * DAY_SECONDS, "How long a key signs access tokens before the next key replaces it", minimum=3600
    )
    WORKERS_CONFIG_PATH: str = _setting(
        "", "File of the workers (TOML): the certificate or token of each, and which are revoked"
    )
    CLIENT_GRPC_HOST: str = _host("Address of the client port")
    CLIENT_GRPC_PORT: int = _port(7701, "Client port")
    GRPC_REFLECTION: bool = _setting(
        False, "Let authenticated callers list the services of a gRPC port (server reflection)"
    )
    REUSE_PORT: bool = _setting(False, "Let several processes share the ports. If `false`, a port in use is an error")

    CLIENT_TOKEN: str = _setting(
        "",
        "Token of the operator. Without `CLIENTS_CONFIG_PATH`, the token of all clients. If both are unset, every "
        "call is refused",
        secret=True,
    )
    CLIENTS_CONFIG_PATH: str = _setting("", "File of the clients (TOML), for example `clients.toml`")
    SCHEDULES_CONFIG_PATH: str = _setting(
        "", "File of the schedules (TOML), for example `schedules.toml`. The holon creates their jobs at set times"
    )
    GLOBAL_WORKER_TOKEN: str = _setting(
        "",
        "Token of all workers that have no table in the file `WORKERS_CONFIG_PATH`. If unset, these workers need "
        "certificates",
        secret=True,
    )
    TLS_ENABLED: bool = _setting(
        False, "Use TLS at the HTTP API too. The gRPC ports use it as soon as the TLS files are set"
    )
    TLS_CERT_PATH: str = _setting("", "Certificate of the node's ports (PEM, with intermediates)")
    TLS_KEY_PATH: str = _setting("", "Private key of that certificate (PEM, without a passphrase)")
    TLS_CA_PATH: str = _setting(
        "",
        "Authorities that sign certificates of workers and clients (PEM). Not needed if no port requires a client "
        "certificate",
    )
    TLS_CRL_PATH: str = _setting("", "Revocation lists (PEM or DER): one file, or a folder. If unset, none are checked")
    TLS_CRL_EXPIRED: str = _setting(
        "refuse",
        "If the revocation list of an authority has expired: `refuse` all its certificates, or `keep` using the old "
        "list",
        choices=("refuse", "keep"),
    )
    TLS_REQUIRE_CLIENT_CERT: bool = _setting(
        False, "The HTTP API requires a client certificate, in addition to the token"
    )
    SECRETS_MOUNTED: bool = _setting(
        False, "Secrets are mounted, for example by Kubernetes: their files may be links, and the group may read them"
    )

    PARENT_URL: str = _setting(
        "",
        "Worker port of the parent, for example `grpcs://host:7700`. Commas separate several addresses of the same "
        "parent. If unset, the holon has no parent",
    )
    PARENT_WORKER_ID: str = _setting(
        "", "Worker id of this holon at its parent. If unset, its certificate gives the id"
    )
    PARENT_TOKEN: str = _setting(
        "", "Worker token of this holon at its parent, if the parent requires one", secret=True
    )
    PARENT_TLS_CERT_PATH: str = _setting(
        "",
        "Certificate for the connection to the parent (PEM). If unset, the node's own, which must then be valid for "
        "clients too",
    )
    PARENT_TLS_KEY_PATH: str = _setting("", "Private key of that certificate (PEM)")
    PARENT_TLS_CA_PATH: str = _setting(
        "", "Authorities that sign the parent's certificate (PEM). If unset, those of `TLS_CA_PATH`"
    )
    HOLON_LABEL: str = _setting("", "Name of this holon that people see at its parent")
    UPLINK_MAX_JOBS: int = _setting(
        100, "How many of the parent's tasks this holon has at a time", minimum=1, maximum=10_000
    )
    UPLINK_SKILLS: str = _setting(
        "",
        "Skills of this holon's workers that it offers to its parent unchanged, separated by commas: `ocr,resize`",
    )
    UPLINK_ALLOWED_SKILLS: str = _setting(
        "",
        "The only skills that the parent's tasks may use here and below, separated by commas. If unset, the parent's "
        "limit applies",
    )
    UPLINK_SHARE: float = _setting(
        0.0,
        "Largest part of the workers' places for the parent's tasks while jobs of clients need places. Idle places "
        "are lent. 0 means 0.5 with a client API, and 1 without",
        minimum=0,
        maximum=1,
    )
    UPLINK_MAX_PRIORITY: float = _setting(
        100.0,
        "Highest priority of a parent's task here. With a minus sign, the lowest",
        minimum=0,
        maximum=1_000_000,
    )
    ESCALATE_AFTER: float = _seconds(
        10,
        "How long the first task of a parent's job waits if nobody here or below can do it. Then the holon returns "
        "the parent's task",
    )
    CLEANUP_TIMEOUT: float = _seconds(
        30,
        "How long a cancelled job may clean up, if a parent or another job started it. Then the node ends it",
    )
    DISCLOSE: str = _setting(
        "summary",
        "What the parent sees of its jobs here: `none`; `summary`, without params, results and names of workers; "
        "`full`, with names of workers",
        choices=("none", "summary", "full"),
    )
    CHILD_LEASE: float = _seconds(300, "How long a child holon keeps a task after its last heartbeat")
    CHILD_RESULT_TIMEOUT: float = _seconds(DAY_SECONDS, "How long a task may run at a child holon, if it sets no limit")
    MAX_HOLARCHY_DEPTH: int = _setting(
        8,
        "How many holons a line from the root down may have, and how many jobs a line of child jobs",
        minimum=1,
        maximum=64,
    )

    STORAGE_URI: str = _setting(
        "sqlite:///.holon/holon.db",
        "The store; see [forms](#the-store)",
        required=True,
    )
    REDIS_HOST: str = _setting("", "Host of a Redis without a password. It is the store if `STORAGE_URI` is unset")
    REDIS_PORT: int = _setting(6379, "Port of that Redis", minimum=1, maximum=65535)
    REDIS_DB: int = _setting(0, "Database number at that Redis", minimum=0, maximum=1_000_000)
    ENCRYPTION_KEY: str = _setting(
        "",
        "Key for data at rest: base64 of 32 random bytes. If this and `ENCRYPTION_KEY_FILE` are unset, data is stored"
        " unencrypted",
        secret=True,
    )
    ENCRYPTION_KEY_FILE: str = _setting(
        "", "File of such keys, one a line. The first encrypts, all decrypt. A reload reads it again"
    )
    JOB_RETENTION: float = _seconds(
        0,
        "How long ended jobs and their request keys are kept. 0 means 7 days, and 1 day on Redis",
        minimum=0,
        maximum=3660 * DAY_SECONDS,
    )
    JOB_RETENTION_COUNT: int = _setting(
        10_000_000,
        "How many ended jobs are kept. Beyond it, the node deletes the oldest within 5 minutes",
        minimum=1,
        maximum=10**12,
    )
    HISTORY_DATABASE_URI: str = _setting(
        "",
        "Database of history: `postgresql://user:password@host/database` or `sqlite:///path.db`. If unset, history "
        "stays in the store",
        secret=True,
    )
    HISTORY_BACKLOG: int = _bytes(
        256 * MIB, "How much history may wait for that database. Above it, new jobs are refused", maximum=2**40
    )
    HISTORY_RETENTION: float = _seconds(
        90 * DAY_SECONDS,
        "How long ended jobs are kept in that database; at least `JOB_RETENTION`",
        minimum=1,
        maximum=36_600 * DAY_SECONDS,
    )
    S3_ENDPOINT_URL: str = _setting(
        "",
        "Address of the S3 that keeps the [files of jobs](files.md), for example `https://s3.eu-"
        "central-1.amazonaws.com`",
    )
    S3_ACCESS_KEY: str = _setting("", "Access key id", secret=True)
    S3_SECRET_KEY: str = _setting("", "Secret access key", secret=True)
    S3_REGION: str = _setting("us-east-1", "Region of the bucket", required=True)
    S3_DEFAULT_BUCKET: str = _setting(
        "holon-payloads", "Bucket of the files. It must exist, and no other bucket is used", required=True
    )
    S3_MAX_CONCURRENCY: int = _setting(
        100,
        "How many calls to S3 run at a time. A call that transfers a file takes up to 32 MiB of memory",
        minimum=1,
        maximum=10_000,
    )
    S3_AUTO_CLEANUP: bool = _setting(
        True, "Delete the files of a job when the job ends. If `false`, they are deleted with the job (`JOB_RETENTION`)"
    )
    TASK_FILES_DIR: str = _setting(
        ".holon/files",
        "Folder of the local copies of these files while their job runs. The node creates it",
        required=True,
    )
    BLUEPRINTS_DIR: str = _setting("", "Folder whose Python files define blueprints. If unset, no files are loaded")

    EXECUTOR_MAX_CONCURRENT_JOBS: int = _setting(100, "How many handlers run at a time", minimum=1, maximum=100_000)
    DISPATCHER_SOFT_LIMIT: int = _setting(
        3,
        "For the dispatch strategy `overflow`: how many tasks a cheap worker gets before dearer workers get any",
        minimum=1,
        maximum=10_000,
    )
    REPUTATION_MIN_THRESHOLD: float = _setting(
        0.0,
        "If a worker's [reputation](workers.md#reputation) for a skill is lower, it gets no tasks of the skill. 0 "
        "excludes no worker",
        minimum=0,
        maximum=1,
    )
    REPUTATION_PENALTY_CONTRACT_VIOLATION: float = _setting(
        0.2, "How much reputation a result costs that breaks its contract", minimum=0, maximum=1
    )
    REPUTATION_PENALTY_TASK_FAILURE: float = _setting(
        0.05, "How much reputation a failure, a timeout or a lost lease costs", minimum=0, maximum=1
    )
    REPUTATION_REWARD_SUCCESS: float = _setting(
        0.001, "How much reputation a successful task adds, up to 1", minimum=0, maximum=1
    )
    JOB_MAX_RETRIES: int = _setting(3, "How often a failed task or handler is retried", minimum=0, maximum=1000)
    RETRY_BACKOFF_MIN_SECONDS: float = _seconds(
        1, "Longest wait before the first retry. It doubles with each retry", minimum=0
    )
    RETRY_BACKOFF_MAX_SECONDS: float = _seconds(60, "Longest wait before any retry", minimum=0)
    MAX_TRANSITIONS_PER_JOB: int = _setting(
        1000, "How many transitions a job may make. Then it fails", minimum=1, maximum=10_000_000
    )
    STRICT_EVENT_VALIDATION: bool = _setting(
        True,
        "Fail a handler if its event does not match the blueprint's declarations; see [events](#events-that-do-not-"
        "match)",
    )
    WORKER_TIMEOUT_SECONDS: float = _seconds(300, "How long a task may run, if it sets no limit")

    WORKER_HELLO_SECONDS: float = _seconds(10, "How long a new session waits for its first message")
    HEARTBEAT_INTERVAL_SECONDS: float = _seconds(
        10, "Interval of a worker's heartbeats, with a random tenth more or less; at most one a second"
    )
    WORKER_SILENCE_SECONDS: float = _seconds(25, "How long a session may be silent. Then it ends")
    TASK_LEASE_SECONDS: float = _seconds(30, "How long a worker keeps a task after its last heartbeat")
    # Workers accept what is not over after 0.05 s: with less than that, a longer task would go from one to the next.
    TASK_OFFER_SECONDS: float = _seconds(5, "How long an offered task waits for the worker's answer", minimum=0.25)

    RATE_LIMITING_ENABLED: bool = _setting(
        False, "Count the calls of each client and the messages of each worker, and refuse those over the limit"
    )
    RATE_LIMIT_LIMIT: int = _setting(
        100, "Calls of a client, or messages of a worker, in one period", minimum=1, maximum=10**9
    )
    RATE_LIMIT_HEARTBEAT_LIMIT: int = _setting(120, "Heartbeats of a worker in one period", minimum=1, maximum=10**9)
    RATE_LIMIT_PERIOD: float = _seconds(60, "Length of a period", minimum=1, maximum=DAY_SECONDS)

    WEBHOOK_SECRET: str = _setting(
        "",
        "Secret that signs webhooks: base64 of 24 to 64 random bytes. To change it, set the new and the old one, "
        "separated by a comma. If unset, the store keeps a secret; `holon webhooks secret` shows it",
        secret=True,
    )
    WEBHOOK_ALLOWED_HOSTS: str = _setting(
        "",
        "Receivers that need no TLS and may have private addresses: names, addresses and networks, separated by commas",
    )
    WEBHOOK_GIVE_UP_SECONDS: float = _seconds(
        DAY_SECONDS, "How long a webhook is tried after the job's end or the event", minimum=1
    )

    STATE_MAX_BYTES: int = _bytes(MIB, "Largest state of a job", maximum=64 * MIB)
    INLINE_PAYLOAD_MAX_BYTES: int = _bytes(MIB, "Largest params or result in a message", maximum=64 * MIB)
    GRPC_MESSAGE_MAX_BYTES: int = _bytes(4 * MIB, "Largest gRPC message", maximum=256 * MIB)
    HTTP_BODY_MAX_BYTES: int = _bytes(MIB, "Largest body of an HTTP request, except files", maximum=64 * MIB)

    SHUTDOWN_GRACE_SECONDS: float = _seconds(
        30, "How long a stopping node waits for running work", minimum=0, maximum=3600
    )
    LOG_LEVEL: str = _setting(
        "INFO", "Lowest level that is logged", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    )
    LOG_FORMAT: str = _setting("json", "One JSON object a line, or text for people", choices=("json", "text"))
    AUDIT_LOG_PATH: str = _setting(
        "", "File of the audit log, one JSON object a line. If unset, its lines are in the log"
    )
    TZ: str = _setting("UTC", "Time zone of the log and of schedules, for example `Europe/Moscow`", required=True)
    OTEL_EXPORTER_OTLP_ENDPOINT: str = _setting(
        "", "Collector of traces (OTLP over gRPC), for example `http://127.0.0.1:4317`. If unset, there are no traces"
    )
    OTEL_SERVICE_NAME: str = _setting("holon", "Name of this service in traces", required=True)


def table() -> dict[str, Setting]:
    """Return every setting by its name, in order."""
    rows = {}
    for item in fields(Settings):
        kind = _KINDS[str(item.type)]
        default = kind(cast("str | float", item.default))
        rows[item.name] = Setting(name=item.name, kind=kind, default=default, **item.metadata)
    return rows

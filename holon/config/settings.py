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

    INSTANCE_ID: str = _setting("", "Name of this node, unique in its holon; by default made of the host's name")

    ENABLE_CLIENT_API: bool = _setting(
        True,
        "Serve clients; without, the node works for its parent alone, and has health, figures and the worker door",
    )
    ADMIN_SOCKET: str = _setting(
        "",
        "Path of a unix socket for the operator on this machine: looking, cancelling, deciding, sending signals and "
        "draining, no token; unset, there is none",
    )
    API_HOST: str = _host("Address of the HTTP door")
    API_PORT: int = _port(8080, "Port of the HTTP door")
    API_BEHIND_PROXY: bool = _setting(False, "A proxy in front ends TLS, so the HTTP door may listen off loopback")
    API_DOCS: bool = _setting(
        True, "Show `/_public/docs` and `/_public/openapi.json`: every route, and the blueprints' inputs"
    )
    GRPC_HOST: str = _host("Address of the worker door")
    GRPC_PORT: int = _port(7700, "Port of the worker door")
    WORKER_AUTH_MODE: str = _setting(
        "auto",
        "What workers show: certificates, tokens, or `mixed`: certificates at `GRPC_PORT` and tokens at "
        "`WORKER_TOKEN_PORT`. `auto` is `mtls` where TLS is on, else `token`",
        choices=("auto", "mtls", "token", "mixed"),
    )
    WORKER_TOKEN_PORT: int = _port(7702, "Port of the worker door for tokens where it is `mixed`")
    ACCESS_TOKEN_SECONDS: float = _seconds(
        900, "How long an access token of a worker lasts", minimum=10, maximum=DAY_SECONDS
    )
    REFRESH_TOKEN_SECONDS: float = _seconds(
        DAY_SECONDS, "How long a worker may stay away and still renew its tokens", minimum=60
    )
    SIGNING_KEY_SECONDS: float = _seconds(
        30 * DAY_SECONDS, "How long a key signs access tokens, before the next one does", minimum=3600
    )
    WORKERS_CONFIG_PATH: str = _setting(
        "", "File (TOML) that says which certificate or token belongs to which worker, and who is revoked"
    )
    CLIENT_GRPC_HOST: str = _host("Address of the client gRPC door")
    CLIENT_GRPC_PORT: int = _port(7701, "Port of the client gRPC door")
    GRPC_REFLECTION: bool = _setting(False, "Let whoever may call a gRPC door ask what it serves (server reflection)")
    REUSE_PORT: bool = _setting(False, "Let several processes share the ports; otherwise a port in use is an error")

    CLIENT_TOKEN: str = _setting(
        "",
        "Token of the operator, or of all clients where there is no file of them; with neither, every call is refused",
        secret=True,
    )
    CLIENTS_CONFIG_PATH: str = _setting(
        "", "File of the clients, such as `clients.toml`; beside it CLIENT_TOKEN is one more"
    )
    SCHEDULES_CONFIG_PATH: str = _setting(
        "", "File of the schedules, such as `schedules.toml`: jobs that the holon makes itself, at set times"
    )
    GLOBAL_WORKER_TOKEN: str = _setting(
        "",
        "Token of the workers that no table of WORKERS_CONFIG_PATH names; unset, they come in with certificates only",
        secret=True,
    )
    TLS_ENABLED: bool = _setting(False, "The HTTP door speaks TLS too; the gRPC doors do once they have the files")
    TLS_CERT_PATH: str = _setting("", "Certificate (PEM, with its intermediates) of every door that speaks TLS")
    TLS_KEY_PATH: str = _setting("", "Private key (PEM, without a passphrase) of that certificate")
    TLS_CA_PATH: str = _setting(
        "", "Authorities (PEM) that sign the workers' certificates, and clients'; not needed where nobody shows one"
    )
    TLS_CRL_PATH: str = _setting(
        "", "Lists of revoked certificates (PEM or DER): a file, or a folder of them; unset, none is looked at"
    )
    TLS_CRL_EXPIRED: str = _setting(
        "refuse",
        "What becomes of an authority's certificates once its list has expired: refuse them, or keep to the old list",
        choices=("refuse", "keep"),
    )
    TLS_REQUIRE_CLIENT_CERT: bool = _setting(
        False, "The HTTP door lets in only who has a certificate of those authorities, beside the token"
    )
    SECRETS_MOUNTED: bool = _setting(
        False, "Files of secrets are mounted, as by Kubernetes: they may be links, and readable by their group"
    )

    PARENT_URL: str = _setting(
        "",
        "Worker door of the parent that this holon serves, such as `grpcs://host:7700`; several addresses of it are "
        "split by commas. Unset, it has no parent",
    )
    PARENT_WORKER_ID: str = _setting("", "Worker id of this holon at its parent; by default that of its certificate")
    PARENT_TOKEN: str = _setting("", "Worker token of this holon at its parent, where that asks for one", secret=True)
    PARENT_TLS_CERT_PATH: str = _setting(
        "", "Certificate (PEM) that the parent is shown; by default the node's own, which must then be for clients too"
    )
    PARENT_TLS_KEY_PATH: str = _setting("", "Private key (PEM) of that certificate")
    PARENT_TLS_CA_PATH: str = _setting(
        "", "Authorities (PEM) that the parent's certificate comes from; by default those of `TLS_CA_PATH`"
    )
    HOLON_LABEL: str = _setting("", "Name of this holon, for the people at its parent")
    UPLINK_MAX_JOBS: int = _setting(
        100, "How many of the parent's tasks this holon has under way at most", minimum=1, maximum=10_000
    )
    UPLINK_SKILLS: str = _setting(
        "",
        "Skills of this holon's workers that its parent is offered as they are, split by commas, such as `ocr,resize`",
    )
    UPLINK_ALLOWED_SKILLS: str = _setting(
        "",
        "All the skills that the parent's tasks may use here and below, split by commas; unset, all that it allows",
    )
    UPLINK_SHARE: float = _setting(
        0.0,
        "Part of the places at workers that the parent's tasks may have while jobs of clients have some; what is idle "
        "is lent. 0 is 0.5 where there is a client API, else 1",
        minimum=0,
        maximum=1,
    )
    UPLINK_MAX_PRIORITY: float = _setting(
        100.0,
        "Highest priority that a parent's task has here; its opposite is the lowest",
        minimum=0,
        maximum=1_000_000,
    )
    ESCALATE_AFTER: float = _seconds(
        10, "How long a task of a parent's job may wait here without anybody who could do it before it is given back"
    )
    CLEANUP_TIMEOUT: float = _seconds(
        30,
        "How long a parent's job, or a part of a job that has ended, may clean up here after it was cancelled, before "
        "it is ended",
    )
    DISCLOSE: str = _setting(
        "summary",
        "What the parent is told of how its jobs are done: `none`; `summary`, which is all but params, results and the "
        "names of workers; or `full`, which has those names too",
        choices=("none", "summary", "full"),
    )
    CHILD_LEASE: float = _seconds(300, "How long a child holon keeps a task after its last heartbeat")
    CHILD_RESULT_TIMEOUT: float = _seconds(
        DAY_SECONDS, "How long a child holon may execute a task when it names no time of its own"
    )
    MAX_HOLARCHY_DEPTH: int = _setting(
        8,
        "How many holons one line of parents may have down to a child of this one, and how many jobs here, each a part "
        "of the one before",
        minimum=1,
        maximum=64,
    )

    STORAGE_URI: str = _setting(
        "sqlite:///.holon/holon.db",
        "The store: `sqlite:///relative.db` or `sqlite:////absolute.db` (`?synchronous=NORMAL`); "
        "`redis://host:6379/0`, `redis+sentinel://host:26379/service` or `redis+cluster://host:6379` "
        "(`?partitions=12&replicas=1&synced=true`), with `rediss` over TLS; `unix:///socket`; or `memory://`",
        required=True,
    )
    REDIS_HOST: str = _setting("", "Host of a Redis without a password, the store where `STORAGE_URI` is unset")
    REDIS_PORT: int = _setting(6379, "Port of that Redis", minimum=1, maximum=65535)
    REDIS_DB: int = _setting(0, "Number of the database there", minimum=0, maximum=1_000_000)
    ENCRYPTION_KEY: str = _setting(
        "",
        "Key (base64 of 32 random bytes) that what jobs carry is encrypted with where it is stored; unset, with "
        "`ENCRYPTION_KEY_FILE`, it is stored as it is",
        secret=True,
    )
    ENCRYPTION_KEY_FILE: str = _setting(
        "", "File of such keys, one a line: the first encrypts, and all of them decrypt; read again on a reload"
    )
    JOB_RETENTION: float = _seconds(
        0,
        "How long ended jobs and their request keys are kept; 0 is 7 days, and 1 day on Redis",
        minimum=0,
        maximum=3660 * DAY_SECONDS,
    )
    JOB_RETENTION_COUNT: int = _setting(
        10_000_000,
        "How many ended jobs are kept at most; the oldest go first. It is looked at every 5 minutes, or more often",
        minimum=1,
        maximum=10**12,
    )
    HISTORY_DATABASE_URI: str = _setting(
        "",
        "Where history is kept, if not in the store: `postgresql://user:password@host/database`, or "
        "`sqlite:///path.db`",
        secret=True,
    )
    HISTORY_BACKLOG: int = _bytes(
        256 * MIB, "How much history may wait for that database before new jobs are refused", maximum=2**40
    )
    HISTORY_RETENTION: float = _seconds(
        90 * DAY_SECONDS,
        "How long ended jobs are kept in that database; at least `JOB_RETENTION`",
        minimum=1,
        maximum=36_600 * DAY_SECONDS,
    )
    S3_ENDPOINT_URL: str = _setting(
        "",
        "Where the [files of jobs](files.md) are kept: an S3, such as `https://s3.eu-central-1.amazonaws.com`; unset, "
        "with the two keys, no handler can have `task_files`",
    )
    S3_ACCESS_KEY: str = _setting("", "Id of the key that this S3 is used with", secret=True)
    S3_SECRET_KEY: str = _setting("", "The key itself", secret=True)
    S3_REGION: str = _setting("us-east-1", "Region of the bucket", required=True)
    S3_DEFAULT_BUCKET: str = _setting(
        "holon-payloads", "Bucket of these files; it must be there, and no other is used", required=True
    )
    S3_MAX_CONCURRENCY: int = _setting(
        100,
        "How many calls of S3 are under way at once; one that sends or fetches a file takes up to 32 MiB of memory",
        minimum=1,
        maximum=10_000,
    )
    S3_AUTO_CLEANUP: bool = _setting(
        True, "Delete the files of a job in S3 once it is over; else once the job is deleted too (`JOB_RETENTION`)"
    )
    TASK_FILES_DIR: str = _setting(
        ".holon/files",
        "Folder for the local copies of these files, while their job is not over; made if it is not there",
        required=True,
    )
    BLUEPRINTS_DIR: str = _setting("", "Folder whose Python files hold blueprints; unset, none is loaded from files")

    EXECUTOR_MAX_CONCURRENT_JOBS: int = _setting(
        100, "How many jobs may run a handler at the same time", minimum=1, maximum=100_000
    )
    DISPATCHER_SOFT_LIMIT: int = _setting(3, "Tasks of a worker before dearer ones get any", minimum=1, maximum=10_000)
    REPUTATION_MIN_THRESHOLD: float = _setting(
        0.0,
        "A worker whose [reputation](workers.md#reputation) for a skill is below this gets no tasks of the skill; 0 "
        "excludes nobody",
        minimum=0,
        maximum=1,
    )
    REPUTATION_PENALTY_CONTRACT_VIOLATION: float = _setting(
        0.2, "A result that breaks its contract lowers the reputation by this", minimum=0, maximum=1
    )
    REPUTATION_PENALTY_TASK_FAILURE: float = _setting(
        0.05, "A failure that counts, a timeout or a lost lease lowers the reputation by this", minimum=0, maximum=1
    )
    REPUTATION_REWARD_SUCCESS: float = _setting(
        0.001, "A task that is done raises the reputation by this, up to 1", minimum=0, maximum=1
    )
    JOB_MAX_RETRIES: int = _setting(
        3, "How often a failed task or handler is tried again, after its first time", minimum=0, maximum=1000
    )
    RETRY_BACKOFF_MIN_SECONDS: float = _seconds(1, "Longest wait before the first retry; doubles each time", minimum=0)
    RETRY_BACKOFF_MAX_SECONDS: float = _seconds(60, "Longest wait before any retry", minimum=0)
    MAX_TRANSITIONS_PER_JOB: int = _setting(
        1000, "How many transitions a job may make before it is failed", minimum=1, maximum=10_000_000
    )
    STRICT_EVENT_VALIDATION: bool = _setting(
        True,
        "Fail a handler that sends an event which its blueprint does not declare, or not with such a payload; without, "
        "the first is told, and the second left out. Refuse an event that a worker's skill, which declares some, "
        "does not; the Python SDK sends none such, whatever is said here",
    )
    JOB_CLAIM_SECONDS: float = _seconds(10, "How long a silent node keeps a job; a running handler renews it")
    WORKER_TIMEOUT_SECONDS: float = _seconds(300, "How long a task may execute when it names no time of its own")

    WORKER_HELLO_SECONDS: float = _seconds(10, "How long a new worker stream may wait with its first message")
    HEARTBEAT_INTERVAL_SECONDS: float = _seconds(
        10, "How often workers send a heartbeat, give or take a tenth; at most once a second"
    )
    WORKER_SILENCE_SECONDS: float = _seconds(
        25, "How long a worker stream may be silent; more than two heartbeats, less than a lease"
    )
    TASK_LEASE_SECONDS: float = _seconds(30, "How long a worker keeps a task after its last heartbeat")
    # Workers accept what is not over after 0.05 s: with less than that, a longer task would go from one to the next.
    TASK_OFFER_SECONDS: float = _seconds(5, "How long an offered task waits for its worker's answer", minimum=0.25)

    RATE_LIMITING_ENABLED: bool = _setting(False, "Count the calls of each client and worker, and refuse those over")
    RATE_LIMIT_LIMIT: int = _setting(
        100, "How many calls of a client, or messages of a worker, a period takes", minimum=1, maximum=10**9
    )
    RATE_LIMIT_HEARTBEAT_LIMIT: int = _setting(
        120, "How many heartbeats of a worker a period takes", minimum=1, maximum=10**9
    )
    RATE_LIMIT_PERIOD: float = _seconds(60, "How long such a period is", minimum=1, maximum=DAY_SECONDS)

    WEBHOOK_SECRET: str = _setting(
        "",
        "Secret (base64 of 24 to 64 random bytes) that webhooks are signed with; while it changes the new one and the "
        "old, split by a comma. Unset, the store keeps a secret, which `holon webhooks secret` shows",
        secret=True,
    )
    WEBHOOK_ALLOWED_HOSTS: str = _setting(
        "",
        "Names, addresses and networks, split by commas, that may be told without TLS, and though they are not public",
    )
    WEBHOOK_GIVE_UP_SECONDS: float = _seconds(
        DAY_SECONDS, "How long after a job's end, or an event, its webhook is tried at most", minimum=1
    )

    STATE_MAX_BYTES: int = _bytes(MIB, "Largest state of one job", maximum=64 * MIB)
    INLINE_PAYLOAD_MAX_BYTES: int = _bytes(MIB, "Largest params or result inside a message", maximum=64 * MIB)
    GRPC_MESSAGE_MAX_BYTES: int = _bytes(4 * MIB, "Largest message on a gRPC door", maximum=256 * MIB)
    HTTP_BODY_MAX_BYTES: int = _bytes(MIB, "Largest body of an HTTP request", maximum=64 * MIB)

    SHUTDOWN_GRACE_SECONDS: float = _seconds(
        30, "How long a stopping node waits for what runs", minimum=0, maximum=3600
    )
    LOG_LEVEL: str = _setting(
        "INFO", "Least severe log records shown", choices=("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    )
    LOG_FORMAT: str = _setting("json", "One JSON object a line, or text for people", choices=("json", "text"))
    AUDIT_LOG_PATH: str = _setting("", "File of the audit log, one JSON object a line; unset, it is part of the log")
    TZ: str = _setting("UTC", "Time zone of the log and of schedules, such as `Europe/Moscow`", required=True)
    OTEL_EXPORTER_OTLP_ENDPOINT: str = _setting(
        "", "Collector of traces, by OTLP over gRPC, such as `http://127.0.0.1:4317`; unset, nothing is traced"
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

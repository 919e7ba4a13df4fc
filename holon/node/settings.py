"""The node's settings, as the rooms below want them."""

from __future__ import annotations

from pathlib import Path

import holon
from holon.config import Config
from holon.config.values import names_in
from holon.config.webhooks import webhook_hosts, webhook_secrets
from holon.domain.reputation import Rules
from holon.domain.tree import Disclose
from holon.domain.webhook import Receivers
from holon.engine.core import EngineSettings
from holon.engine.rates import Rates
from holon.ports import StoreSettings
from holon.security.sts.exchange import TokenSettings
from holon.security.tls import TlsPaths
from holon.storage.s3_settings import S3Settings
from holon.transports.grpc.settings import DoorSettings, WorkerDoorSettings
from holon.transports.http.door import HttpSettings
from holon.transports.http.webhooks.settings import DeliverySettings
from holon.uplink.settings import UplinkSettings, allowed_to_parent, parent_urls
from holon.worker.hints import Hints
from holon.worker.settings import Credentials


def _ms(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def tls_paths(config: Config) -> TlsPaths:
    """Where the TLS files are."""
    return TlsPaths(
        config.TLS_CERT_PATH,
        config.TLS_KEY_PATH,
        config.TLS_CA_PATH,
        config.SECRETS_MOUNTED,
        config.TLS_CRL_PATH,
        config.TLS_CRL_EXPIRED == "refuse",
    )


def parent_tls_paths(config: Config) -> TlsPaths:
    """Where the TLS files are that are for the parent alone; empty where it gets the node's own, or none."""
    return TlsPaths(
        config.PARENT_TLS_CERT_PATH, config.PARENT_TLS_KEY_PATH, config.PARENT_TLS_CA_PATH, config.SECRETS_MOUNTED
    )


def store_settings(config: Config) -> StoreSettings:
    """What the store needs of the settings."""
    return StoreSettings(
        node_id=config.INSTANCE_ID,
        lease=_ms(config.TASK_LEASE_SECONDS),
        offer=_ms(config.TASK_OFFER_SECONDS),
        execution=_ms(config.WORKER_TIMEOUT_SECONDS),
        max_state_bytes=config.STATE_MAX_BYTES,
        history_backlog=config.HISTORY_BACKLOG if config.moves_history else None,
    )


def engine_settings(config: Config) -> EngineSettings:
    """What the engine needs of the settings."""
    return EngineSettings(
        concurrent_jobs=config.EXECUTOR_MAX_CONCURRENT_JOBS,
        soft_limit=config.DISPATCHER_SOFT_LIMIT,
        reputation=Rules(
            config.REPUTATION_MIN_THRESHOLD,
            config.REPUTATION_PENALTY_CONTRACT_VIOLATION,
            config.REPUTATION_PENALTY_TASK_FAILURE,
            config.REPUTATION_REWARD_SUCCESS,
        ),
        max_transitions=config.MAX_TRANSITIONS_PER_JOB,
        max_retries=config.JOB_MAX_RETRIES,
        retry_first=_ms(config.RETRY_BACKOFF_MIN_SECONDS),
        retry_longest=_ms(config.RETRY_BACKOFF_MAX_SECONDS),
        max_payload=config.INLINE_PAYLOAD_MAX_BYTES,
        job_retention=_ms(config.job_retention),
        job_retention_count=config.JOB_RETENTION_COUNT,
        history_retention=_ms(config.HISTORY_RETENTION),
        rates=_rates(config) if config.RATE_LIMITING_ENABLED else None,
        strict_events=config.STRICT_EVENT_VALIDATION,
        max_depth=config.MAX_HOLARCHY_DEPTH,
        cleanup=_ms(config.CLEANUP_TIMEOUT),
        receivers=_receivers(config),
        webhook_give_up=_ms(config.WEBHOOK_GIVE_UP_SECONDS),
    )


def delivery_settings(config: Config, secret: bytes) -> DeliverySettings:
    """What telling receivers of jobs' ends needs of the settings.

    Arguments:
        secret: the store's own, which signs where WEBHOOK_SECRET is unset.
    """
    return DeliverySettings(webhook_secrets(config) or (secret,), _receivers(config), holon.__version__)


def _receivers(config: Config) -> Receivers:
    return Receivers(*webhook_hosts(config))


def _rates(config: Config) -> Rates:
    return Rates(config.RATE_LIMIT_LIMIT, config.RATE_LIMIT_HEARTBEAT_LIMIT, _ms(config.RATE_LIMIT_PERIOD))


def s3_settings(config: Config) -> S3Settings:
    """What the files of jobs need of the settings."""
    return S3Settings(
        endpoint=config.S3_ENDPOINT_URL,
        access_key=config.S3_ACCESS_KEY,
        secret_key=config.S3_SECRET_KEY,
        region=config.S3_REGION,
        bucket=config.S3_DEFAULT_BUCKET,
        concurrency=config.S3_MAX_CONCURRENCY,
    )


def worker_door_settings(config: Config) -> WorkerDoorSettings:
    """What the workers' door needs of the settings."""
    return WorkerDoorSettings(
        client_port=config.CLIENT_GRPC_PORT if config.ENABLE_CLIENT_API else None,
        host=config.GRPC_HOST,
        port=config.GRPC_PORT,
        reuse_port=config.REUSE_PORT,
        reflection=config.GRPC_REFLECTION,
        max_message_bytes=config.GRPC_MESSAGE_MAX_BYTES,
        certificates=config.worker_auth != "token",
        token_port=config.WORKER_TOKEN_PORT if config.worker_auth == "mixed" else None,
        node_id=config.INSTANCE_ID,
        hello=config.WORKER_HELLO_SECONDS,
        heartbeat=config.HEARTBEAT_INTERVAL_SECONDS,
        silence=config.WORKER_SILENCE_SECONDS,
        lease=config.TASK_LEASE_SECONDS,
        child_lease=config.CHILD_LEASE,
        child_execution=config.CHILD_RESULT_TIMEOUT,
        offer=config.TASK_OFFER_SECONDS,
        max_payload_bytes=config.INLINE_PAYLOAD_MAX_BYTES,
    )


def uplink_settings(config: Config) -> UplinkSettings:
    """What serving the parent needs of the settings.

    Raises:
        ConfigError: PARENT_URL names no address, or UPLINK_ALLOWED_SKILLS has what is no skill.
    """
    own = (config.TLS_CERT_PATH, config.TLS_KEY_PATH)
    certificate, key = (config.PARENT_TLS_CERT_PATH, config.PARENT_TLS_KEY_PATH) if config.PARENT_TLS_CERT_PATH else own
    return UplinkSettings(
        parent_urls(config.PARENT_URL),
        Credentials(
            config.PARENT_TOKEN,
            _path(config.PARENT_TLS_CA_PATH or config.TLS_CA_PATH),
            _path(certificate),
            _path(key),
            _parents_settings(config, shows=bool(certificate)),
            config.SECRETS_MOUNTED,
        ),
        config.INSTANCE_ID,
        config.PARENT_WORKER_ID,
        config.UPLINK_MAX_JOBS,
        _ms(config.CHILD_RESULT_TIMEOUT),
        config.HOLON_LABEL,
        holon.__version__,
        share=config.UPLINK_SHARE or (0.5 if config.ENABLE_CLIENT_API else 1.0),
        max_priority=config.UPLINK_MAX_PRIORITY,
        escalate_after=config.ESCALATE_AFTER,
        cleanup=config.CLEANUP_TIMEOUT,
        skills=names_in(config.UPLINK_SKILLS),
        allowed_skills=allowed_to_parent(names_in(config.UPLINK_ALLOWED_SKILLS)),
        disclose=Disclose(config.DISCLOSE),
    )


def _parents_settings(config: Config, *, shows: bool) -> Hints:
    """What the settings are called that the link with the parent has its credentials from.

    Arguments:
        shows: whether there is a certificate among them.
    """
    return Hints(
        "PARENT_URL",
        "PARENT_WORKER_ID",
        "PARENT_TOKEN",
        # Where neither is set, the one that is for the parent alone is the one to set.
        "PARENT_TLS_CERT_PATH" if config.PARENT_TLS_CERT_PATH or not shows else "TLS_CERT_PATH",
        "PARENT_TLS_CA_PATH" if config.PARENT_TLS_CA_PATH or not config.TLS_CA_PATH else "TLS_CA_PATH",
        shows,
    )


def _path(text: str) -> Path | None:
    return Path(text) if text else None


def token_settings(config: Config, holon_id: str) -> TokenSettings:
    """What the tokens of workers need of the settings, and who gives them."""
    return TokenSettings(
        issuer=holon_id,
        access=_ms(config.ACCESS_TOKEN_SECONDS),
        refresh=_ms(config.REFRESH_TOKEN_SECONDS),
        rotation=_ms(config.SIGNING_KEY_SECONDS),
    )


def client_door_settings(config: Config) -> DoorSettings:
    """What the clients' gRPC door needs of the settings."""
    return DoorSettings(
        host=config.CLIENT_GRPC_HOST,
        port=config.CLIENT_GRPC_PORT,
        reuse_port=config.REUSE_PORT,
        reflection=config.GRPC_REFLECTION,
        max_message_bytes=config.GRPC_MESSAGE_MAX_BYTES,
    )


def http_settings(config: Config) -> HttpSettings:
    """What the HTTP door needs of the settings."""
    return HttpSettings(
        host=config.API_HOST,
        port=config.API_PORT,
        max_body=config.HTTP_BODY_MAX_BYTES,
        reuse_port=config.REUSE_PORT,
        client_certificates=config.TLS_REQUIRE_CLIENT_CERT,
        behind_proxy=config.API_BEHIND_PROXY,
        docs=config.API_DOCS,
        version=holon.__version__,
        client_api=config.ENABLE_CLIENT_API,
    )


def trace_resource(config: Config) -> dict[str, str]:
    """What traces say of the node that they come from."""
    return {
        "service.name": config.OTEL_SERVICE_NAME,
        "service.version": holon.__version__,
        "service.instance.id": config.INSTANCE_ID,
    }

"""What the settings must fulfil together: doors, tokens, TLS files, times and sizes. Each rule yields what is wrong."""

from __future__ import annotations

import ipaddress
import os
import re
import zoneinfo
from collections.abc import Iterator

from holon.config.encryption_keys import read_keys
from holon.config.history_uri import HistoryURI
from holon.config.places import database_problem, file_problem, folder_problem, socket_problem
from holon.config.s3_rules import s3_problems
from holon.config.setting import DAY_SECONDS, KIB
from holon.config.settings import Settings
from holon.config.storage_uri import StorageURI, is_redis
from holon.config.values import has_port, names_in, shown, without_credentials
from holon.config.webhooks import webhook_problems
from holon.errors import ConfigError, Violation
from holon.files import SOCKET_PATH_BYTES, read_private, read_public, trust_problem

_DOORS = (("API_HOST", "API_PORT"), ("GRPC_HOST", "GRPC_PORT"), ("CLIENT_GRPC_HOST", "CLIENT_GRPC_PORT"))
# The worker door's second port.
_TOKEN_DOOR = ("GRPC_HOST", "WORKER_TOKEN_PORT")
_TLS_PATHS = ("TLS_CERT_PATH", "TLS_KEY_PATH", "TLS_CA_PATH")
_TOKENS = ("CLIENT_TOKEN", "GLOBAL_WORKER_TOKEN")
_HOST = re.compile(r"[A-Za-z0-9.:_%-]{1,253}")
_NO_HOST = "is not a host; use a name or an address, without scheme, brackets or port"
_INSTANCE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_COLLECTOR = re.compile(r"https?://[A-Za-z0-9.:_\[\]-]+/?")
_NODE_URL = re.compile(r"(grpcs?)://([A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?/?")
# A blueprint of that name passes it on.
_SKILL = re.compile(r"[A-Za-z0-9_-]{1,128}")
# What a certificate or a parent's file of workers may name somebody.
_WORKER_ID = re.compile(r"[A-Za-z0-9._:/-]{1,253}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,4096}")
_EXPOSED_TOKEN_LENGTH = 32
# What stands around a payload in a message: a task that fits alone, and not with that, could never be offered.
AROUND_BYTES = 16 * KIB


def is_loopback(host: str) -> bool:
    """Say whether `host` can be reached from this machine only; a name other than localhost is not resolved."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def job_retention(settings: Settings) -> float:
    """Return how many seconds ended jobs are kept in the store; where that is memory, not as long."""
    return settings.JOB_RETENTION or (1 if is_redis(settings.STORAGE_URI) else 7) * DAY_SECONDS


def redis_uri(settings: Settings) -> str:
    """Return the STORAGE_URI that REDIS_HOST, REDIS_PORT and REDIS_DB stand for; empty when there is no such host."""
    host = settings.REDIS_HOST
    if not _HOST.fullmatch(host):
        return ""
    return f"redis://{f'[{host}]' if ':' in host else host}:{settings.REDIS_PORT}/{settings.REDIS_DB}"


def exposes_clients(settings: Settings) -> bool:
    """Whether clients may come from outside this machine, so that no token of theirs may be short."""
    return bool(_exposing_clients(settings))


def _exposing_clients(settings: Settings) -> str:
    """The setting by which clients may come from outside this machine; empty: they may not."""
    if settings.API_BEHIND_PROXY:
        return "API_BEHIND_PROXY=true"
    hosts = {"API_HOST": settings.API_HOST, "CLIENT_GRPC_HOST": settings.CLIENT_GRPC_HOST}
    return next((f"{name}={host}" for name, host in hosts.items() if not is_loopback(host)), "")


def asks_for_certificates(settings: Settings) -> bool:
    """Whether there is a door where callers show certificates, if there is TLS: workers, or clients over HTTP."""
    return settings.WORKER_AUTH_MODE != "token" or settings.TLS_REQUIRE_CLIENT_CERT


def problems(settings: Settings) -> Iterator[Violation]:
    """Yield everything that is wrong between settings that are each of the right kind and within their bounds."""
    yield from _names(settings)
    yield from _addresses(settings)
    yield from _ports(settings)
    yield from _tokens(settings)
    yield from _tls_files(settings)
    yield from _worker_door(settings)
    yield from _parent(settings)
    yield from _encryption(settings)
    yield from s3_problems(settings)
    yield from webhook_problems(settings)
    yield from _times_and_sizes(settings)


def _names(settings: Settings) -> Iterator[Violation]:
    if not _INSTANCE_ID.fullmatch(settings.INSTANCE_ID):
        yield Violation("INSTANCE_ID", "must be 1 to 128 letters, digits, dots, dashes, underscores or colons")
    try:
        yield from _files_of("STORAGE_URI", StorageURI.parse(settings.STORAGE_URI), settings)
    except ConfigError as error:
        yield from error.details
    if settings.REDIS_HOST and not _HOST.fullmatch(settings.REDIS_HOST):
        yield Violation("REDIS_HOST", f"{shown(settings.REDIS_HOST)!r} {_NO_HOST}")
    try:
        yield from _files_of("HISTORY_DATABASE_URI", HistoryURI.parse(settings.HISTORY_DATABASE_URI), settings)
    except ConfigError as error:
        yield from error.details
    folder = settings.BLUEPRINTS_DIR
    if folder and (reason := folder_problem(folder) or trust_problem(folder, mounted=settings.SECRETS_MOUNTED)):
        yield Violation("BLUEPRINTS_DIR", reason)
    if not is_zone(settings.TZ):
        yield Violation(
            "TZ", f"{settings.TZ!r} is not a time zone that this machine knows; use a name such as Europe/Moscow or UTC"
        )
    if settings.AUDIT_LOG_PATH and (reason := file_problem(settings.AUDIT_LOG_PATH)):
        yield Violation("AUDIT_LOG_PATH", reason)
    collector = settings.OTEL_EXPORTER_OTLP_ENDPOINT
    if collector and not (_COLLECTOR.fullmatch(collector) and has_port(collector)):
        yield Violation(
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            f"{shown(collector)!r} is not the address of a collector; use http://host:4317, or https://",
        )


def _files_of(name: str, uri: StorageURI | HistoryURI, settings: Settings) -> Iterator[Violation]:
    if uri.path is not None:
        mounted = settings.SECRETS_MOUNTED
        # SQLite believes what it finds beside its file.
        if reason := database_problem(uri.path) or trust_problem(str(uri.path), mounted=mounted, beside=True):
            yield Violation(name, reason)
    for option, path in uri.tls_files:
        if reason := _file_problem(name, path, settings):
            yield Violation(name, f"{option}: {reason}")


def _addresses(settings: Settings) -> Iterator[Violation]:
    for name, _ in _DOORS:
        host = getattr(settings, name)
        if not _HOST.fullmatch(host):
            yield Violation(name, f"{host!r} {_NO_HOST}")
        elif is_loopback(host):
            continue
        elif name == "API_HOST" and not (settings.TLS_ENABLED or settings.API_BEHIND_PROXY):
            yield Violation(
                name,
                f"{host} is reachable from other machines and HTTP is not encrypted; use 127.0.0.1, or set "
                "TLS_ENABLED=true with the TLS files, or use a proxy that ends TLS and set API_BEHIND_PROXY=true",
            )
        elif name != "API_HOST" and not any(getattr(settings, path) for path in _TLS_PATHS):
            yield Violation(
                name,
                f"{host} is reachable from other machines and TLS is off; use 127.0.0.1, or set "
                f"{', '.join(_TLS_PATHS)}",
            )


def _ports(settings: Settings) -> Iterator[Violation]:
    taken: list[tuple[str, str, int]] = []
    doors = (*_DOORS, _TOKEN_DOOR) if settings.WORKER_AUTH_MODE == "mixed" else _DOORS
    for host_name, port_name in doors:
        host, port = getattr(settings, host_name), getattr(settings, port_name)
        for other_name, other_host, other_port in taken:
            if port and port == other_port and (host == other_host or {host, other_host} & {"0.0.0.0", "::"}):  # noqa: S104  # compared, not bound
                yield Violation(port_name, f"{port} is also {other_name}; each needs its own port")
        taken.append((port_name, host, port))


def _tokens(settings: Settings) -> Iterator[Violation]:
    for name in _TOKENS:
        token = getattr(settings, name)
        if token and not _TOKEN.fullmatch(token):
            yield Violation(
                name, "must be at most 4096 visible ASCII characters without spaces, so that a header can carry it"
            )
    yield from _short("CLIENT_TOKEN", settings.CLIENT_TOKEN, _exposing_clients(settings))


def _short(name: str, token: str, exposing: str) -> Iterator[Violation]:
    """Yield what is wrong with a token that could be guessed by callers whom a setting lets in from outside."""
    if exposing and 0 < len(token) < _EXPOSED_TOKEN_LENGTH:
        reason = (
            f"has {len(token)} characters, but needs {_EXPOSED_TOKEN_LENGTH}, because its port can be reached from "
        )
        yield Violation(name, f"{reason}other machines ({exposing}); `holon tokens new` makes one")


def _worker_door(settings: Settings) -> Iterator[Violation]:
    mode, tls = settings.WORKER_AUTH_MODE, any(getattr(settings, path) for path in _TLS_PATHS)
    if mode in ("mtls", "mixed") and not tls:
        yield Violation("WORKER_AUTH_MODE", f"{mode} needs certificates: set {', '.join(_TLS_PATHS)}, or use token")
    if settings.TLS_CRL_PATH and not asks_for_certificates(settings):
        yield Violation(
            "TLS_CRL_PATH", "is for certificates, but with WORKER_AUTH_MODE=token nobody presents one; unset it"
        )
    elif settings.TLS_CRL_PATH and not tls:
        yield Violation("TLS_CRL_PATH", f"is for certificates, but TLS is off; set {', '.join(_TLS_PATHS)}")
    if mode in ("token", "mixed") and not is_loopback(settings.GRPC_HOST):
        yield from _short("GLOBAL_WORKER_TOKEN", settings.GLOBAL_WORKER_TOKEN, f"GRPC_HOST={settings.GRPC_HOST}")


def _parent(settings: Settings) -> Iterator[Violation]:
    # Before it is split, for a password may have a comma.
    parents = names_in(without_credentials(settings.PARENT_URL))
    if settings.PARENT_URL and not parents:
        yield Violation("PARENT_URL", "has no address of a node; write grpcs://host:7700, or unset it")
    if not settings.ENABLE_CLIENT_API and not settings.PARENT_URL:
        yield Violation(
            "ENABLE_CLIENT_API", "is false and PARENT_URL is unset, so nothing can give this node work; set one of them"
        )
    if not settings.ENABLE_CLIENT_API and settings.SCHEDULES_CONFIG_PATH:
        yield Violation(
            "SCHEDULES_CONFIG_PATH",
            "makes this node create jobs, but with ENABLE_CLIENT_API=false it works only for its parent; unset it, "
            "and use schedules on the parent or on a node with a client API",
        )
    if settings.ADMIN_SOCKET and (reason := _socket_problem(settings.ADMIN_SOCKET, settings)):
        yield Violation("ADMIN_SOCKET", reason)
    for one in parents:
        found = _NODE_URL.fullmatch(one)
        if found is None or not has_port(one):
            yield Violation("PARENT_URL", f"{shown(one)!r} is not the address of a node; write grpcs://host:7700")
        elif found[1] == "grpc" and not is_loopback(found[2].strip("[]")):
            yield Violation(
                "PARENT_URL", f"{one} is not encrypted, which is only allowed to this machine; use grpcs://"
            )
    names = ("PARENT_TLS_CERT_PATH", "PARENT_TLS_KEY_PATH")
    if bool(settings.PARENT_TLS_CERT_PATH) != bool(settings.PARENT_TLS_KEY_PATH):
        unset = next(name for name in names if not getattr(settings, name))
        yield Violation(unset, f"is unset; {' and '.join(names)} belong together; set both or neither")
    for name in (*names, "PARENT_TLS_CA_PATH"):
        path = getattr(settings, name)
        if path and (reason := _file_problem(name, path, settings)):
            yield Violation(name, reason)
    if settings.PARENT_WORKER_ID and not _WORKER_ID.fullmatch(settings.PARENT_WORKER_ID):
        yield Violation("PARENT_WORKER_ID", "is not a worker id; use letters, digits or characters of . _ : / -")
    if settings.PARENT_TOKEN and not _TOKEN.fullmatch(settings.PARENT_TOKEN):
        yield Violation("PARENT_TOKEN", "must be at most 4096 visible ASCII characters without spaces")
    passed, allowed = names_in(settings.UPLINK_SKILLS), names_in(settings.UPLINK_ALLOWED_SKILLS)
    if bad := [skill for skill in passed if not _SKILL.fullmatch(skill)]:
        yield Violation(
            "UPLINK_SKILLS", f"{bad[0]!r} cannot be passed on; use 1 to 128 of the characters A-Z a-z 0-9 _ -"
        )
    lacking = [skill for skill in passed if skill not in allowed]
    if allowed and lacking:
        yield Violation("UPLINK_ALLOWED_SKILLS", f"lacks {lacking[0]!r}, which UPLINK_SKILLS passes on; add it")


def _socket_problem(path: str, settings: Settings) -> str | None:
    whole = os.path.abspath(path)  # noqa: PTH100  as text, and of no file yet
    if len(os.fsencode(whole)) > SOCKET_PATH_BYTES:
        return f"has over {SOCKET_PATH_BYTES} bytes as a whole path, the limit for a socket; use a shorter path"
    if "," in whole:
        return f"{whole} has a comma, where gRPC splits addresses, so nobody could connect; use another path"
    # Others could have made it before the node, or make it after: their callers would take them for the node.
    folder = os.path.dirname(whole)  # noqa: PTH120  as text
    return socket_problem(path) or trust_problem(folder, mounted=settings.SECRETS_MOUNTED)


def _tls_files(settings: Settings) -> Iterator[Violation]:
    paths = {name: getattr(settings, name) for name in _TLS_PATHS}
    if settings.TLS_REQUIRE_CLIENT_CERT and not settings.TLS_ENABLED:
        yield Violation(
            "TLS_REQUIRE_CLIENT_CERT", "is for the HTTP port, which speaks TLS only with TLS_ENABLED=true; set both"
        )
    if not (settings.TLS_ENABLED or any(paths.values())):
        return
    needed = _TLS_PATHS if asks_for_certificates(settings) else _TLS_PATHS[:2]
    for name in (name for name in needed if not paths[name]):
        yield Violation(name, f"is unset; TLS needs all of {', '.join(needed)}. Set all, or none for no TLS")
    # What is in them, the doors find out.
    for name, path in paths.items():
        if path and (reason := _file_problem(name, path, settings)):
            yield Violation(name, reason)


def _encryption(settings: Settings) -> Iterator[Violation]:
    try:
        read_keys(settings)
    except ConfigError as error:
        yield from error.details


def _file_problem(name: str, path: str, settings: Settings) -> str | None:
    try:
        if name in ("TLS_KEY_PATH", "PARENT_TLS_KEY_PATH"):
            read_private(path, mounted=settings.SECRETS_MOUNTED)
        else:
            read_public(path)
    except ValueError as error:
        return str(error)
    return None


def is_zone(name: str) -> bool:
    """Say whether a time zone is known here; UTC is, also where there is no database of them."""
    if name == "UTC":
        return True
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _times_and_sizes(settings: Settings) -> Iterator[Violation]:
    if settings.WORKER_SILENCE_SECONDS <= 2 * settings.HEARTBEAT_INTERVAL_SECONDS:
        yield Violation(
            "WORKER_SILENCE_SECONDS",
            f"{settings.WORKER_SILENCE_SECONDS:g} s must be more than twice HEARTBEAT_INTERVAL_SECONDS "
            f"({settings.HEARTBEAT_INTERVAL_SECONDS:g} s), or one late heartbeat ends the stream",
        )
    if settings.TASK_LEASE_SECONDS <= settings.WORKER_SILENCE_SECONDS:
        yield Violation(
            "TASK_LEASE_SECONDS",
            f"{settings.TASK_LEASE_SECONDS:g} s must be more than WORKER_SILENCE_SECONDS "
            f"({settings.WORKER_SILENCE_SECONDS:g} s), or a worker loses its tasks while its stream is still open",
        )
    if settings.CHILD_LEASE < settings.TASK_LEASE_SECONDS:
        yield Violation(
            "CHILD_LEASE", "must be at least TASK_LEASE_SECONDS, because a child holon answers later than a worker"
        )
    if settings.REFRESH_TOKEN_SECONDS < settings.ACCESS_TOKEN_SECONDS:
        yield Violation(
            "REFRESH_TOKEN_SECONDS",
            "must be at least ACCESS_TOKEN_SECONDS, or no token could be renewed",
        )
    if settings.SIGNING_KEY_SECONDS < 2 * settings.ACCESS_TOKEN_SECONDS:
        yield Violation("SIGNING_KEY_SECONDS", "must be at least twice ACCESS_TOKEN_SECONDS")
    if settings.RETRY_BACKOFF_MAX_SECONDS < settings.RETRY_BACKOFF_MIN_SECONDS:
        yield Violation("RETRY_BACKOFF_MAX_SECONDS", "must be at least RETRY_BACKOFF_MIN_SECONDS")
    kept = job_retention(settings)
    if settings.HISTORY_DATABASE_URI and kept > settings.HISTORY_RETENTION:
        yield Violation(
            "HISTORY_RETENTION",
            f"{settings.HISTORY_RETENTION:g} s must be at least JOB_RETENTION ({kept:g} s), or jobs "
            "lose their history while they are still shown",
        )
    if settings.INLINE_PAYLOAD_MAX_BYTES + AROUND_BYTES > settings.GRPC_MESSAGE_MAX_BYTES:
        yield Violation(
            "INLINE_PAYLOAD_MAX_BYTES",
            f"must be at least {AROUND_BYTES} bytes below GRPC_MESSAGE_MAX_BYTES, because messages carry more than "
            "payloads",
        )

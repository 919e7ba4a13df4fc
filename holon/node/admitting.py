"""Who is let in at the worker door, read from the files that the settings name, and read again when these change."""

from __future__ import annotations

from functools import partial

from holon.clock import Time
from holon.config import Config
from holon.engine.reloading import Changes, Part
from holon.security.admission import Admission
from holon.security.tls import ServerCredentials
from holon.security.tls_files import TlsFiles
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers


def open_admission(config: Config, tls: TlsFiles | None, clock: Time) -> Admission:
    """Read the files; from then on it goes by the newest of `tls`. Blocks for reads.

    Raises:
        ConfigError: one cannot be used; the details name each place.
    """
    trust = tls.current.trust if tls is not None else None
    admission = Admission(clock, read_rules(config), trust, config.GLOBAL_WORKER_TOKEN)
    if tls is not None:
        tls.on_change(lambda: admission.use(trust=tls.current.trust))
    return admission


def read_rules(config: Config) -> WorkerRules:
    """Who may be which worker, by WORKERS_CONFIG_PATH; blocks, and raises as `load_workers`."""
    path = config.WORKERS_CONFIG_PATH
    if not path:
        return WorkerRules()
    return load_workers(
        path,
        config.GLOBAL_WORKER_TOKEN,
        exposed=config.exposes_workers,
        mounted=config.SECRETS_MOUNTED,
        certificates=config.worker_auth != "token",
    )


def workers_part(config: Config, admission: Admission) -> Part:
    """The workers' file, as a part that can be read again."""

    def take(rules: WorkerRules) -> Changes:
        admission.use(rules=rules)
        return ()

    return Part("workers", lambda: (config.WORKERS_CONFIG_PATH,), lambda: partial(take, read_rules(config)))


def tls_part(tls: TlsFiles) -> Part:
    """The TLS files, as a part that can be read again."""

    def take(loaded: ServerCredentials) -> Changes:
        tls.use(loaded)
        return ()

    return Part("tls", tls.paths, lambda: partial(take, tls.read()))

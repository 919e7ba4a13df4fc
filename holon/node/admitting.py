"""Who is let in at the worker door, read from the files that the settings name, and read again when these change."""

from __future__ import annotations

from functools import partial

from holon.clock import Clock
from holon.config import Config
from holon.engine.reloading import Apply, Changes
from holon.security.admission import Admission
from holon.security.tls_files import TlsFiles
from holon.security.worker_rules import WorkerRules
from holon.security.workers_file import load_workers


def open_admission(config: Config, tls: TlsFiles | None, clock: Clock) -> Admission:
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
    return load_workers(path, config.GLOBAL_WORKER_TOKEN, mounted=config.SECRETS_MOUNTED) if path else WorkerRules()


class WorkersFile:
    """The workers' file, as a part that can be read again."""

    name = "workers"

    def __init__(self, config: Config, admission: Admission) -> None:
        self._config = config
        self._admission = admission

    def __repr__(self) -> str:
        return f"WorkersFile({self._config.WORKERS_CONFIG_PATH})"

    def read(self) -> Apply:
        """Read the file again; see `Part`."""
        return partial(self._take, read_rules(self._config))

    def _take(self, rules: WorkerRules) -> Changes:
        self._admission.use(rules=rules)
        return ()

"""`Config`: the settings as one object, read from the environment, changed by code, checked at once and frozen."""

from __future__ import annotations

import difflib
import os
import re
import secrets
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING

from holon.config import rules
from holon.config.history_uri import HistoryURI
from holon.config.setting import Setting, Value
from holon.config.settings import Settings, table
from holon.config.storage_uri import StorageURI, has_open_options
from holon.config.values import HIDDEN, bounds_problem, read, shown, without_credentials
from holon.errors import ConfigError, Violation

_TABLE = table()
_REDIS = ("REDIS_HOST", "REDIS_PORT", "REDIS_DB")


class Config(Settings):
    """The settings of one node, mutable until `freeze`.

    A wrong value is kept in mind, not raised, until `check` reports all of them together; an empty environment
    variable counts as unset.

    Arguments:
        environ: where the variables are read; the process's environment by default.
        values: settings by name, which win over the environment.

    Raises:
        ConfigError: a name in `values` is no setting.
    """

    _frozen: bool
    _unread: dict[str, str]
    # Whether STORAGE_URI was given, or is what REDIS_HOST makes of it.
    _store_given: bool

    def __init__(self, environ: Mapping[str, str] | None = None, **values: Value) -> None:
        object.__setattr__(self, "_frozen", False)
        object.__setattr__(self, "_unread", {})
        object.__setattr__(self, "_store_given", False)
        source = os.environ if environ is None else environ
        for name, setting in _TABLE.items():
            object.__setattr__(self, name, read(setting, setting.default))
        for name in _TABLE:
            if text := source.get(name):
                setattr(self, name, text)
        for name, value in values.items():
            setattr(self, name, value)
        if not self.INSTANCE_ID:
            self.INSTANCE_ID = _instance_id()

    def _set(self, name: str, value: object) -> None:
        if name not in _TABLE:
            raise ConfigError(_unknown(name), details=[Violation(name, "is not a setting")])
        if self._frozen:
            raise ConfigError(f"{name} cannot change: the settings are fixed once the node starts")
        self._unread.pop(name, None)
        try:
            object.__setattr__(self, name, read(_TABLE[name], value))
        except ValueError as error:
            self._unread[name] = str(error)
        if name == "STORAGE_URI":
            object.__setattr__(self, "_store_given", True)
        elif name in _REDIS and not self._store_given:
            object.__setattr__(self, "STORAGE_URI", rules.redis_uri(self) or _TABLE["STORAGE_URI"].default)

    if not TYPE_CHECKING:
        # Hidden from type checkers, which would otherwise let code assign any misspelt name.
        __setattr__ = _set

    def __repr__(self) -> str:
        changed = {name: value for name, value in self.effective().items() if value != _TABLE[name].default}
        return f"Config({', '.join(f'{name}={value!r}' for name, value in changed.items())})"

    @staticmethod
    def settings() -> Mapping[str, Setting]:
        """Return every setting by its name, in the order of the documentation."""
        return dict(_TABLE)

    @property
    def tls(self) -> bool:
        """Whether both gRPC doors speak TLS."""
        return bool(self.TLS_CERT_PATH and self.TLS_KEY_PATH)

    @property
    def job_retention(self) -> float:
        """How many seconds ended jobs are kept in the store."""
        return rules.job_retention(self)

    @property
    def exposes_clients(self) -> bool:
        """Whether clients may come from outside this machine, so that no token of theirs may be short."""
        return rules.exposes_clients(self)

    @property
    def exposes_workers(self) -> bool:
        """Whether workers may come from outside this machine, so that no token of theirs may be short."""
        return not rules.is_loopback(self.GRPC_HOST)

    @property
    def worker_auth(self) -> str:
        """What workers show: "mtls", "token" or "mixed"; what WORKER_AUTH_MODE says or implies."""
        if self.WORKER_AUTH_MODE != "auto":
            return self.WORKER_AUTH_MODE
        return "mtls" if self.tls else "token"

    @property
    def keeps_files(self) -> bool:
        """Whether handlers can have `task_files`."""
        return bool(self.S3_ENDPOINT_URL)

    @property
    def moves_history(self) -> bool:
        """Whether history leaves the store for a database of its own; a store's own file is none."""
        history = HistoryURI.parse(self.HISTORY_DATABASE_URI)
        if history.path is None:
            return bool(history.postgres)
        store = StorageURI.parse(self.STORAGE_URI).path
        return store is None or store.resolve() != history.path.resolve()

    def effective(self) -> dict[str, Value]:
        """Return every setting with its value, secrets hidden: what may be shown to people and written to logs."""
        values = {
            name: HIDDEN if setting.secret and getattr(self, name) else shown(getattr(self, name))
            for name, setting in _TABLE.items()
        }
        if has_open_options(self.STORAGE_URI):
            values["STORAGE_URI"] = without_credentials(self.STORAGE_URI)
        return values

    def check(self) -> None:
        """Check every setting, and the files that they name; change nothing.

        Raises:
            ConfigError: something is wrong; the message and `details` list all of it, by the variable's name.
        """
        wrong = [Violation(name, reason) for name, reason in self._unread.items()]
        for name, setting in _TABLE.items():
            if name not in self._unread and (reason := bounds_problem(setting, getattr(self, name))):
                wrong.append(Violation(name, reason))
        alone = {violation.field for violation in wrong}
        wrong += [violation for violation in rules.problems(self) if violation.field not in alone]
        if self._store_given or not self.REDIS_HOST:
            # They say nothing then; and what is there may be others' (Kubernetes sets REDIS_PORT to a URL).
            wrong = [violation for violation in wrong if violation.field not in _REDIS]
        if wrong:
            raise ConfigError(_report(wrong), details=wrong)

    def freeze(self) -> Config:
        """Check everything, then refuse every later change; return this object.

        Raises:
            ConfigError: as `check`; the settings then stay mutable.
        """
        self.check()
        object.__setattr__(self, "_frozen", True)
        return self


def _report(wrong: list[Violation]) -> str:
    head = "1 setting is wrong" if len(wrong) == 1 else f"{len(wrong)} settings are wrong"
    lines = "\n".join(f"  {violation.field}: {violation.reason}" for violation in wrong)
    return f"{head}; change what is listed and start again:\n{lines}"


def _unknown(name: str) -> str:
    near = difflib.get_close_matches(name, _TABLE, n=1)
    hint = f"did you mean {near[0]}?" if near else "docs/configuration.md lists them"
    return f"there is no setting {name}; {hint}"


def _instance_id() -> str:
    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:100]
    return f"{host or 'node'}-{secrets.token_hex(4)}"

"""The command line: `holon worker run` runs a worker from its module."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from holon.cli.output import Json, silence_grpc
from holon.errors import ConfigError

if TYPE_CHECKING:
    from holon.cli.dev import Found
    from holon.worker import Worker

app = typer.Typer(help="Workers.", no_args_is_help=True)


@app.callback()
def _workers() -> None:
    pass


@app.command()
def run(
    target: Annotated[
        str, typer.Argument(metavar="MODULE:WORKER", help="Module and name of the worker, such as my_worker:worker.")
    ],
    worker_id: Annotated[str | None, typer.Option("--id", help="Id of the worker (WORKER_ID).")] = None,
    as_json: Json = False,
) -> None:
    """Run a worker until SIGTERM or Ctrl-C, then drain it. A second signal ends it at once.

    NODE_URL, TLS_CA_PATH, TLS_CERT_PATH, TLS_KEY_PATH and WORKER_TOKEN select the node.

    Without NODE_URL, the worker connects to `holon serve --dev` of this folder, with a certificate for this run.
    """
    from holon.cli.dev import Found, read

    silence_grpc()
    _log(as_json=as_json)
    worker = _find(target)
    if worker_id is not None:
        if worker.worker_id and worker.worker_id != worker_id:
            raise ConfigError(f"{target} sets the id {worker.worker_id!r} in its code; leave --id out")
        os.environ["WORKER_ID"] = worker_id
    found = Found() if worker.node_url or os.environ.get("NODE_URL") else read()
    with _joined(found, worker.worker_id or os.environ.get("WORKER_ID") or _own_id()):
        worker.run()


def _find(target: str) -> Worker:
    import importlib

    from holon.worker import Worker

    name, _, attribute = target.partition(":")
    if not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)*", name) or not attribute.isidentifier():
        raise ConfigError(f"{target!r} names no worker; write MODULE:WORKER, such as my_worker:worker for my_worker.py")
    # As `python -m` does: what is in this folder can be imported.
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name)
    except (Exception, SystemExit) as error:
        raise ConfigError(_why(name, error)) from error
    found = getattr(module, attribute, None)
    if not isinstance(found, Worker):
        workers = [f"{name}:{key}" for key, value in vars(module).items() if isinstance(value, Worker)]
        hint = f"; there is {', '.join(workers)}" if workers else ""
        raise ConfigError(f"{attribute!r} in module {name!r} is not a Worker{hint}")
    return found


def _why(name: str, error: BaseException) -> str:
    """Why a worker's module cannot be imported."""
    from contextlib import suppress
    from importlib.util import find_spec

    from holon.engine.loader import reason_of

    if isinstance(error, ModuleNotFoundError) and error.name and f"{name}.".startswith(f"{error.name}."):
        return f"there is no module {error.name!r} in {Path.cwd()}, nor installed"
    # Of a module in a package, the package is imported first, and may be what cannot be.
    with suppress(Exception, SystemExit):
        if (spec := find_spec(name)) is not None and spec.origin is not None:
            return f"{spec.origin} cannot be imported: {reason_of(spec.origin, error)}"
    return f"{name} cannot be imported: {reason_of(name, error)}"


@contextmanager
def _joined(found: Found, worker_id: str) -> Iterator[None]:
    """While it is entered, serve a development node, under a certificate of its authority that is then thrown away.

    Without such a node nothing is written anywhere: a worker may run where it cannot.
    """
    if found.worker_url is None or found.ca is None or found.certs is None:
        yield
        return
    from tempfile import TemporaryDirectory

    from holon.config import Config
    from holon.security.certificates import issue_worker, open_authority

    authority = open_authority(found.certs, make=False, mounted=Config().SECRETS_MOUNTED)
    try:
        folder = TemporaryDirectory(prefix="holon-worker-")
    except OSError as error:
        raise ConfigError(f"the worker's certificate needs a temporary folder: {error.strerror}; set TMPDIR") from error
    with folder as name:
        pair = issue_worker(authority, Path(name), worker_id, days=30)
        os.environ |= {
            "NODE_URL": found.worker_url,
            "TLS_CA_PATH": found.ca,
            "TLS_CERT_PATH": str(pair.certificate),
            "TLS_KEY_PATH": str(pair.key),
        }
        yield


def _own_id() -> str:
    import socket

    host = re.sub(r"[^A-Za-z0-9._-]+", "-", socket.gethostname())[:40]
    return f"{host or 'worker'}-{os.getpid()}"


def _log(*, as_json: bool) -> None:
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    from holon.telemetry import set_up_logging

    form = "json" if as_json else os.environ.get("LOG_FORMAT") or "text"
    level, zone = os.environ.get("LOG_LEVEL") or "INFO", os.environ.get("TZ") or "UTC"
    if form not in ("json", "text"):
        raise ConfigError(f"LOG_FORMAT must be json or text, not {form!r}")
    if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
        raise ConfigError(f"LOG_LEVEL must be DEBUG, INFO, WARNING, ERROR or CRITICAL, not {level!r}")
    try:
        ZoneInfo(zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        zone = "UTC"
    set_up_logging(level, form, zone)

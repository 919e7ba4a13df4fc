"""The command line: `holon serve` runs a node."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from holon.cli.output import Json, silence_grpc
from holon.errors import InvalidArgument

if TYPE_CHECKING:
    from holon.config import Config
    from holon.config.setting import Value
    from holon.node import Ports

log = logging.getLogger(__name__)
# What a door is called for people, where that is no name for programs.
_SAID = {"worker_tokens": "workers with tokens"}


def serve(
    dev: Annotated[
        bool,
        typer.Option(
            "--dev",
            help="For development: make certificates and a token, write .holon/dev.toml for other commands, and load "
            "blueprints again when their files change.",
        ),
    ] = False,
    blueprints: Annotated[
        str | None,
        typer.Option(help="Folder of blueprints (BLUEPRINTS_DIR). With --dev, the default is ./blueprints."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(help="The store (STORAGE_URI), such as sqlite:///file.db, redis://host:6379/0 or memory://"),
    ] = None,
    api_port: Annotated[int | None, typer.Option(help="Port of the HTTP API (API_PORT).")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="gRPC port for workers (GRPC_PORT).")] = None,
    client_grpc_port: Annotated[int | None, typer.Option(help="gRPC port for clients (CLIENT_GRPC_PORT).")] = None,
    log_level: Annotated[str | None, typer.Option(help="Lowest level of log records (LOG_LEVEL).")] = None,
    log_format: Annotated[str | None, typer.Option(help="json or text (LOG_FORMAT).")] = None,
    as_json: Json = False,
) -> None:
    """Run a node until SIGTERM or Ctrl-C, then drain it. A second signal ends it at once.

    Settings come from the environment; these options override it.

    If settings are wrong, the command lists them all and exits 2.
    """
    if blueprints == "":
        # As a path it would be the folder that this runs in, whose files would run.
        raise InvalidArgument("--blueprints is empty; give a folder, or leave it out")
    silence_grpc()
    given: dict[str, Value | None] = {
        "BLUEPRINTS_DIR": blueprints,
        "STORAGE_URI": storage,
        "API_PORT": api_port,
        "GRPC_PORT": grpc_port,
        "CLIENT_GRPC_PORT": client_grpc_port,
        "LOG_LEVEL": log_level,
        "LOG_FORMAT": log_format,
    }
    if dev and log_format is None and not os.environ.get("LOG_FORMAT"):
        given["LOG_FORMAT"] = "text"
    if dev and not os.environ.get("GRPC_REFLECTION"):
        given["GRPC_REFLECTION"] = True
    with _hangups_passed_over():
        _run(given, dev=dev, as_json=as_json)


@contextmanager
def _hangups_passed_over() -> Iterator[None]:
    """Have no SIGHUP end the process before its node hears them; the files to read again are not read yet.

    One of a terminal that goes away still ends it.
    """
    in_main = threading.current_thread() is threading.main_thread()
    at_terminal = sys.stdin is not None and sys.stdin.isatty()
    if not in_main or at_terminal or signal.getsignal(signal.SIGHUP) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, signal.SIG_DFL)


def _run(given: dict[str, Value | None], *, dev: bool, as_json: bool) -> None:
    from holon.config import Config
    from holon.node import Node, run_alone
    from holon.telemetry import set_up_logging

    config = Config(None, **{name: value for name, value in given.items() if value is not None})
    if dev:
        from holon.cli.dev import prepare

        prepare(config)
    config.check()
    set_up_logging(config.LOG_LEVEL, config.LOG_FORMAT, config.TZ)
    node = Node(config, follows_blueprints=dev)
    run_alone(node.run_until_signalled(lambda ports: _ready(config, ports, dev=dev, as_json=as_json)))


def _ready(config: Config, ports: Ports, *, dev: bool, as_json: bool) -> None:
    from holon.cli.output import discard, show_json

    scheme = "grpcs" if config.tls else "grpc"
    doors = {
        "http": f"{'https' if config.TLS_ENABLED else 'http'}://{_in_url(config.API_HOST)}:{ports.http}",
        "workers": f"{scheme}://{_in_url(config.GRPC_HOST)}:{ports.worker}",
    }
    if ports.client is not None:
        doors["clients"] = f"{scheme}://{_in_url(config.CLIENT_GRPC_HOST)}:{ports.client}"
    if config.ADMIN_SOCKET:
        doors["operators"] = f"unix:{config.ADMIN_SOCKET}"
    if ports.worker_tokens is not None:
        doors["worker_tokens"] = f"{scheme}://{_in_url(config.GRPC_HOST)}:{ports.worker_tokens}"
    written = None
    if dev:
        from holon.cli.dev import write

        written = write(config, doors["http"], doors["workers"], doors["clients"])
    try:
        if as_json:
            show_json(doors | ({"dev": str(written)} if written else {}))
            return
        said = f"ready: {', '.join(f'{_SAID.get(name, name)} {url}' for name, url in doors.items())}\n"
        if written:
            said += f"`holon jobs` and `holon worker run` in this folder find it by {written}\n"
        # In one piece: the log may share the stream.
        print(said, end="", flush=True)
    except OSError as error:
        # Nothing of what the node does depends on who reads it.
        log.warning("the addresses cannot be written to standard output: %s; the node goes on", error.strerror)
        discard(sys.stdout)


def _in_url(host: str) -> str:
    return f"[{host}]" if ":" in host else host

"""The command line: `holon certs` makes and shows development certificates."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from holon.cli.output import Json, show_json, show_lines
from holon.errors import ConfigError

app = typer.Typer(help="Development certificates.", no_args_is_help=True)
_Folder = Annotated[Path, typer.Option("--dir", help="Folder of the certificates.")]


@app.command()
def dev(
    folder: _Folder = Path("certs"),
    host: Annotated[
        list[str] | None,
        typer.Option(help="Another name or address of the server; repeatable. Loopback is always in it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make an authority and a server certificate. Valid ones are kept."""
    from holon.cli.dev import server_pair
    from holon.config import Config
    from holon.security.certificates import open_authority

    authority = open_authority(folder, mounted=Config().SECRETS_MOUNTED)
    server = server_pair(authority, folder, host or ())
    _show(
        {
            "TLS_CA_PATH": str(authority.files.certificate),
            "TLS_CERT_PATH": str(server.certificate),
            "TLS_KEY_PATH": str(server.key),
        },
        as_json=as_json,
    )


@app.command()
def issue(
    worker_id: Annotated[
        str, typer.Argument(metavar="WORKER_ID", help="Id of the worker: the common name of the certificate.")
    ],
    folder: _Folder = Path("certs"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days until it expires.")] = 397,
    as_json: Json = False,
) -> None:
    """Make a certificate for a worker, with the authority of `holon certs dev` or `holon serve --dev`."""
    from holon.config import Config
    from holon.security.certificates import issue_worker, open_authority

    authority = open_authority(folder, make=False, mounted=Config().SECRETS_MOUNTED)
    pair = issue_worker(authority, folder, worker_id, days=days)
    _show(
        {
            "TLS_CA_PATH": str(authority.files.certificate),
            "TLS_CERT_PATH": str(pair.certificate),
            "TLS_KEY_PATH": str(pair.key),
        },
        as_json=as_json,
    )


@app.command()
def show(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="FILE",
            help="PEM files.",
            show_default="TLS_CERT_PATH and TLS_CA_PATH, else the files in --dir",
        ),
    ] = None,
    folder: _Folder = Path("certs"),
    as_json: Json = False,
) -> None:
    """Show certificates: their names, uses and when they expire."""
    from holon.security.certificates import days_left, describe

    now = datetime.now(UTC)
    found = [(str(file), facts) for file in files or _own_files(folder) for facts in describe(file)]
    if as_json:
        show_json(
            {
                "certificates": [
                    {"file": str(file), **asdict(facts), "days_left": days_left(facts, now)} for file, facts in found
                ]
            }
        )
        return
    for number, (file, facts) in enumerate(found):
        if number:
            print()
        show_lines(
            (
                ("file", file),
                ("subject", facts.subject),
                ("issuer", facts.issuer),
                ("serial", facts.serial),
                ("valid from", facts.not_before.isoformat(sep=" ")),
                ("valid until", f"{facts.not_after.isoformat(sep=' ')}, {_left(days_left(facts, now))}"),
                ("sha256", facts.fingerprint),
                ("authority", "yes" if facts.is_authority else "no"),
                ("names", ", ".join(facts.names)),
                ("uses", ", ".join(facts.uses)),
            )
        )


def _own_files(folder: Path) -> list[Path]:
    """The files that a node here would serve with, or else those in the folder of development certificates."""
    from holon.config import Config

    config = Config()
    if named := [Path(path) for path in (config.TLS_CERT_PATH, config.TLS_CA_PATH) if path]:
        return named
    try:
        there = sorted(folder.glob("*.pem"))
    except OSError as error:
        raise ConfigError(f"{folder} cannot be looked at: {error.strerror}; name a file, or another --dir") from error
    if there:
        return there
    raise ConfigError(f"there is no certificate in {folder}, nor is TLS_CERT_PATH set; name a file, or give --dir")


def _left(days: float) -> str:
    from holon.security.endings import WARN_DAYS

    if days < 0:
        return f"expired {-days:.0f} days ago: RENEW IT"
    return f"in {days:.0f} days" + (": RENEW IT" if days <= WARN_DAYS[0] else "")


def _show(variables: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        show_json(variables)
        return
    for name, value in variables.items():
        print(f"{name}={value}")

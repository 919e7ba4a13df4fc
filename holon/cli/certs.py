"""The command line: `holon certs` makes and shows development certificates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holon.cli.output import Json, show_json, show_lines

app = typer.Typer(help="Development certificates.", no_args_is_help=True)
_Folder = Annotated[Path, typer.Option("--dir", help="Folder of the certificates.")]


@app.command()
def dev(
    folder: _Folder = Path("certs"),
    host: Annotated[
        list[str] | None, typer.Option(help="Name or address of the server, beside the loopback's; may be repeated.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Make the authority and the server's certificate; those that are still good are kept."""
    from holon.cli.dev import server_pair
    from holon.security.certificates import open_authority

    authority = open_authority(folder)
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
    worker_id: Annotated[str, typer.Argument(help="The worker's id: the common name of its certificate.")],
    folder: _Folder = Path("certs"),
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days that it is valid.")] = 397,
    as_json: Json = False,
) -> None:
    """Make a certificate for one worker."""
    from holon.security.certificates import issue_worker, open_authority

    authority = open_authority(folder)
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
    file: Annotated[Path, typer.Argument(help="A file with certificates (PEM).")],
    as_json: Json = False,
) -> None:
    """Show what the certificates in a file say."""
    from holon.security.certificates import describe

    found = describe(file)
    if as_json:
        show_json({"certificates": found})
        return
    for number, facts in enumerate(found):
        if number:
            print()
        show_lines(
            (
                ("subject", facts.subject),
                ("issuer", facts.issuer),
                ("serial", facts.serial),
                ("valid from", facts.not_before.isoformat(sep=" ")),
                ("valid until", facts.not_after.isoformat(sep=" ")),
                ("sha256", facts.fingerprint),
                ("authority", "yes" if facts.is_authority else "no"),
                ("names", ", ".join(facts.names)),
                ("uses", ", ".join(facts.uses)),
            )
        )


def _show(variables: dict[str, str], *, as_json: bool) -> None:
    if as_json:
        show_json(variables)
        return
    for name, value in variables.items():
        print(f"{name}={value}")

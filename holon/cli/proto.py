"""The command line: `holon proto` hands out the protocol's `.proto` files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from holon.cli.output import Json, safe, show_json
from holon.errors import FailedPrecondition

app = typer.Typer(help="The protocol's .proto files.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    pass


@app.command()
def export(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder for the files; made if it does not exist.")],
    as_json: Json = False,
) -> None:
    """Write the .proto files of this version into a folder, for `protoc -I DIR`. Existing files are replaced."""
    import holon

    protos = Path(holon.__file__).with_name("proto")
    written = []
    for source in sorted(protos.rglob("*.proto")):
        target = folder / source.relative_to(protos)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(source.read_bytes())
        except OSError as error:
            raise FailedPrecondition(f"{target} cannot be written: {error.strerror}; name another folder") from error
        written.append(str(target))
    if as_json:
        show_json({"files": written})
    else:
        for path in written:
            print(safe(path))

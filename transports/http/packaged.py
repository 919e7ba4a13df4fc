"""The HTTP door: files of `holon/web` as answers, under a policy that lets a page ask nobody but the node."""

from __future__ import annotations

from functools import cache
from importlib.resources import files

from holon.transports.http.asgi import Packing, Reply

HTML = "text/html"
CSS = "text/css"
JAVASCRIPT = "text/javascript"

# Images are in style sheets, and an icon that is none keeps browsers from asking for one.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Browsers that know it let no text become markup or a script, whatever a page does with it.
_NO_MARKUP = "; require-trusted-types-for 'script'; trusted-types 'none'"


def page_file(folder: str, name: str, media_type: str, *, no_markup: bool = False) -> Reply:
    """Return an answer with a packaged file.

    Arguments:
        folder: the folder of `holon/web` that it is in; neither this nor `name` may come from a request.
        no_markup: whether its page makes no markup of text, so that browsers may refuse all such.
    """
    policy = _POLICY + _NO_MARKUP if no_markup else _POLICY
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        # A node that was updated must not be shown by the files of the one before.
        (b"cache-control", b"no-cache"),
    )
    kind = f"{media_type}; charset=utf-8".encode()
    return Reply(200, _content(folder, name), headers, kind, Packing.ONCE)


@cache
def _content(folder: str, name: str) -> bytes:
    """A file, read once: whoever asks for it, and however slowly they take it, it is in memory once."""
    return files("holon").joinpath("web", folder, name).read_bytes()

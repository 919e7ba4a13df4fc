"""What the site adds to the pages of docs/: the README as its first page, and the sources that pages link to."""

from __future__ import annotations

import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

REPOSITORY = Path(__file__).parents[3]
DOCS = REPOSITORY / "docs"
# A link to something of the repository that is not in docs/, as a page of docs/ or the README writes it.
_SHIM = re.compile(r'<script src="https://unpkg\.com/[^"]*"></script>')
_OUTSIDE = re.compile(r"\]\((?:\.\./)+([\w./-]+)(#[\w-]+)?\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the README, the changes, and what else pages link to outside of docs/."""
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "index.md", content=_from_readme(readme)))
    for path in sorted(set(_linked(readme))):
        _add(files, config, path)
    for page in DOCS.rglob("*.md"):
        for path in sorted(set(_linked(page.read_text(encoding="utf-8")))):
            _add(files, config, path)
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links out of docs/ to what was added for them."""
    depth = page.file.src_uri.count("/")  # type: ignore[attr-defined]
    return _OUTSIDE.sub(lambda found: f"]({'../' * depth}{_place(found[1])}{found[2] or ''})", markdown)


def on_post_page(output: str, page: object, config: MkDocsConfig) -> str:  # noqa: ARG001
    """Take out what would be fetched from elsewhere: the theme's help for a search without a server."""
    return _SHIM.sub("", output)


def on_post_template(output: str, template_name: str, config: MkDocsConfig) -> str:  # noqa: ARG001
    """The same of pages that the theme makes by itself."""
    return _SHIM.sub("", output)


def _from_readme(text: str) -> str:
    """The README as a page beside those of docs/."""
    for opening in ("](", 'src="', 'srcset="'):
        text = text.replace(f"{opening}docs/", opening)
    return text.replace("](CHANGELOG.md)", "](../CHANGELOG.md)")


def _linked(text: str) -> list[str]:
    return [path for path, _ in _OUTSIDE.findall(_from_readme(text))]


def _place(path: str) -> str:
    """Where the site has something of the repository."""
    if path == "README.md":
        return "index.md"
    if path.endswith(".md"):
        return path
    source = f"source/{path.rstrip('/')}"
    return f"{source}/index.md" if (REPOSITORY / path).is_dir() else source


def _add(files: Files, config: MkDocsConfig, path: str) -> None:
    place, source = _place(path), REPOSITORY / path
    if place == "index.md" or files.get_file_from_path(place) is not None or not source.exists():
        return
    if source.is_dir():
        names = sorted(one.name for one in source.iterdir() if one.is_file())
        content = f"# {path}\n\n" + "".join(f"- [{name}]({name})\n" for name in names)
        files.append(File.generated(config, place, content=content))
        for name in names:
            _add(files, config, f"{path.rstrip('/')}/{name}")
    else:
        files.append(File.generated(config, place, content=source.read_bytes()))

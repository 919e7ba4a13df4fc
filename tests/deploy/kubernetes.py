"""The manifests, and what Kubernetes' own schema says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import yaml

FOLDER = Path(__file__).parents[2] / "docs/deploy/kubernetes"


def manifests(name: str) -> list[dict[str, Any]]:
    """The objects of a file."""
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


def named(name: str, kind: str) -> dict[str, Any]:
    """The one object of a kind in a file."""
    [found] = [one for one in manifests(name) if one["kind"] == kind]
    return found


def container(name: str) -> dict[str, Any]:
    """The node's container of a file."""
    [found] = named(name, "StatefulSet")["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def problems(manifest: dict[str, Any]) -> list[str]:
    """Fields that its kind does not have, that are missing, or are of another type."""
    group, _, version = manifest["apiVersion"].rpartition("/")
    package = f"apis_{group.replace('.', '_')}_{version}" if group else f"api_{version}"
    models = import_module(f"kube_models.{package}.io.k8s.api.{group.partition('.')[0] or 'core'}.{version}")
    kind = getattr(models, manifest["kind"])
    return list(
        _wrong(kind, {key: manifest[key] for key in manifest.keys() - {"apiVersion", "kind"}}, manifest["kind"])
    )


def _wrong(kind: Any, value: Any, where: str) -> Iterator[str]:
    origin, inner = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        # The first is what is meant, the others are None or a shorter form.
        found = [list(_wrong(one, value, where)) for one in inner]
        if all(found):
            yield from found[0]
    elif origin is list and isinstance(value, list):
        for number, one in enumerate(value):
            yield from _wrong(inner[0], one, f"{where}[{number}]")
    elif origin is dict and isinstance(value, dict):
        for key, one in value.items():
            yield from _wrong(inner[1], one, f"{where}.{key}")
    elif is_dataclass(kind) and isinstance(value, dict):
        yield from _wrong_fields(kind, value, where)
    elif is_dataclass(kind) or not isinstance(value, origin or kind) or (kind is int and isinstance(value, bool)):
        yield f"{where} is no {getattr(kind, '__name__', kind)}: {value!r}"


def _wrong_fields(kind: Any, value: dict[str, Any], where: str) -> Iterator[str]:
    hints = get_type_hints(kind)
    # `from` is a keyword of Python, so the field is called `from_`.
    known = {one.metadata.get("original_name", one.name): one for one in fields(kind)}
    for name, one in known.items():
        if name not in value and one.default is MISSING and one.default_factory is MISSING:
            yield f"{where} lacks {name}"
    for name, inner in value.items():
        if name in known:
            yield from _wrong(hints[known[name].name], inner, f"{where}.{name}")
        else:
            yield f"{where} has no field {name}"

"""One value at a time: text into the kind that a setting holds, and the bounds of that setting."""

from __future__ import annotations

import math
import re
from urllib.parse import urlsplit

from holon.config.setting import Setting, Value

_TRUE = frozenset({"true", "1", "yes", "on"})
_FALSE = frozenset({"false", "0", "no", "off"})
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
# Not what Python reads as one besides: digits of other scripts, and 1_000. What is not finite is told by its bounds.
_NUMBER = re.compile(r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|inf|infinity|nan)", re.IGNORECASE)
HIDDEN = "(hidden)"
# A password that is not percent-encoded may hold anything that divides a URI: what is before the last @ is hidden.
_CREDENTIALS = re.compile(r":(//)?.*@", re.DOTALL)
_OPTIONS = re.compile(r"(://[^?#]*[?#]).+", re.DOTALL)
_KIND_NAMES = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def read(setting: Setting, value: object) -> Value:
    """Return `value`, as an environment variable or as code gave it, in the setting's kind.

    Raises:
        ValueError: it cannot be read as that kind; the message says what is expected, and never shows a secret.
    """
    if isinstance(value, str):
        return _from_text(setting, value)
    if setting.kind is float and type(value) in (int, float):
        return float(value)  # type: ignore[arg-type]  # narrowed by the exact types above
    if type(value) is setting.kind:
        return value
    raise ValueError(f"must be {_KIND_NAMES[setting.kind]}, not of type {type(value).__name__}")


def bounds_problem(setting: Setting, value: Value) -> str | None:
    """Return what is wrong with a value of the right kind, or None."""
    if setting.required and not value:
        return "must not be empty"
    if setting.choices and value not in setting.choices:
        return f"must be one of {', '.join(setting.choices)}, not {value!r}"
    if isinstance(value, str):
        return None
    if not math.isfinite(value):
        return f"must be a finite number, not {value}"
    if setting.minimum is not None and value < setting.minimum:
        return f"must be at least {setting.minimum:.15g}{_unit(setting)}, not {value}"
    if setting.maximum is not None and value > setting.maximum:
        return f"must be at most {setting.maximum:.15g}{_unit(setting)}, not {value}"
    return None


def _from_text(setting: Setting, text: str) -> Value:
    word = text.strip()
    if setting.kind is str:
        return text
    if setting.kind is bool and word.lower() in _TRUE | _FALSE:
        return word.lower() in _TRUE
    if setting.kind is int and _WHOLE.fullmatch(word):
        return int(word)
    if setting.kind is float and _NUMBER.fullmatch(word):
        return float(word)
    raise ValueError(f"must be {_KIND_NAMES[setting.kind]}, not {text!r}")


def names_in(text: str) -> tuple[str, ...]:
    """The names in a value that is split by commas, each once."""
    return tuple(dict.fromkeys(filter(None, (one.strip() for one in text.split(",")))))


def has_port(url: str) -> bool:
    """Whether the port of a URL, if it names one, is a port."""
    try:
        return urlsplit(url).port != 0
    except ValueError:
        return False


def without_credentials(text: str) -> str:
    """Return a URI without the user and password that it may hold."""
    return _CREDENTIALS.sub(rf":\1{HIDDEN}@", text)


def shown(value: Value) -> Value:
    """Return a value without what a URI, right or wrong, may hold that is secret: user, password and options."""
    return _OPTIONS.sub(rf"\1{HIDDEN}", without_credentials(value)) if isinstance(value, str) else value


def _unit(setting: Setting) -> str:
    return f" {setting.unit}" if setting.unit else ""


def sqlite_instead(text: str) -> str:
    """What to write in the place of a `sqlite:` URI that has fewer than three slashes; empty where it has them."""
    rest = text.partition(":")[2]
    path = rest.lstrip("/")
    if rest.startswith("///") or not path:
        return ""
    return f"for {path} in the node's folder write sqlite:///{path}, for /{path} write sqlite:////{path}"

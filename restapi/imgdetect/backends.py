"""A backend URL names its module: `file:./data/images`, `haar:face?min_neighbors=5`, `threads:?workers=2`."""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType
from typing import NamedTuple
from urllib.parse import parse_qsl


class BackendUrl(NamedTuple):
    """A parsed backend URL."""

    scheme: str  # the module's name; of `celery+redis` the part before the plus
    target: str  # what stands between the scheme and the query; of `celery+redis://host` it is `redis://host`
    parameters: dict[str, str]


def parse(url: str) -> BackendUrl:
    """Split a backend URL.

    Raises:
        ValueError: no scheme, or a parameter without a value or given twice.
    """
    scheme, colon, rest = url.partition(":")
    if not colon or not scheme:
        raise ValueError(f"{url!r} is not a backend URL; it looks like 'file:./data' (a name, a colon, a target)")
    target, _, query = rest.partition("?")
    pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=True) if query else []
    parameters = dict(pairs)
    if len(parameters) != len(pairs):
        raise ValueError(f"a parameter of the URL {scheme + ':'!r} is given twice")  # the URL may hold a password
    scheme, plus, through = scheme.partition("+")
    return BackendUrl(scheme, f"{through}:{target}" if plus else target, parameters)


def module(package: ModuleType, url: BackendUrl) -> ModuleType:
    """The module of a seam's package that the URL's scheme names.

    Raises:
        ValueError: there is no such backend, or its library is not installed.
    """
    known = sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))
    if url.scheme not in known:
        raise ValueError(f"there is no backend {url.scheme!r}; known here: {', '.join(known)}")
    try:
        return importlib.import_module(f"{package.__name__}.{url.scheme}")
    except ModuleNotFoundError as error:
        extra = f"pip install 'imgdetect[{url.scheme}]'"
        raise ValueError(f"backend {url.scheme!r} needs the package {error.name!r}; {extra} installs it") from None


def refuse_unknown(parameters: dict[str, str], *known: str) -> None:
    """Raise ValueError when a parameter is not one of the known ones."""
    unknown = sorted(set(parameters) - set(known))
    if unknown:
        raise ValueError(f"unknown parameter {', '.join(unknown)}; known here: {', '.join(known) or 'none'}")


def positive(parameters: dict[str, str], name: str, default: float) -> float:
    """A parameter that is a finite number above 0.

    Raises:
        ValueError: it is none.
    """
    value = float(parameters.get(name, default))
    if not 0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite")
    return value

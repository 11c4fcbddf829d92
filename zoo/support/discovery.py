"""Modules that register themselves: importing all of a package fills its table, so that a new one touches no list."""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module


@cache
def import_all(package: str, leaf: str = "") -> None:
    """Import every module of a package, once; with ``leaf``, the module of that name in each of its sub-packages that has one.

    Args:
        package: dotted name.
        leaf: for example ``model``.
    """
    found = import_module(package)
    for entry in pkgutil.iter_modules(found.__path__):
        name = f"{package}.{entry.name}"
        if not leaf:
            import_module(name)
        elif entry.ispkg and any(inner.name == leaf for inner in pkgutil.iter_modules(import_module(name).__path__)):
            import_module(f"{name}.{leaf}")

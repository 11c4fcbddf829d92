"""The ``zoo`` command: one file per group of verbs."""

from zoo.cli.command import app, main

__all__ = ["app", "main"]

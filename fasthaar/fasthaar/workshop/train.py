"""`fasthaar train`: a cascade from samples of an object and pictures without it."""

from __future__ import annotations

import click


@click.command()
def train() -> None:
    """Train a cascade from samples of an object and pictures without it."""

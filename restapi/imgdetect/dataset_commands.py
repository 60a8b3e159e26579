"""`imgdetect dataset`: pictures that clients may name."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click

from imgdetect.archives import Archive, Limits
from imgdetect.catalogue import DATASETS
from imgdetect.datasets import Dataset, is_picture_name
from imgdetect.errors import Problem
from imgdetect.headers import read_header
from imgdetect.model_commands import downloaded, refuse, settings_or_exit

_LIMITS = Limits(entries=200_000, entry_bytes=100_000_000, total_bytes=30_000_000_000)


@click.group()
def dataset() -> None:
    """Pictures that clients may name instead of sending them."""


@dataset.command("list")
def list_command() -> None:
    """Print how many pictures are here, and what can be fetched."""
    folder = settings_or_exit().effective_dataset_dir
    click.echo(f"here: {len(Dataset(folder).names())} pictures in {folder}")
    click.echo("can be fetched:")
    for offer in DATASETS.values():
        state = "" if offer.verified else "  unverified: no checksum is known"
        click.echo(f"  {offer.name:10} {offer.publisher}; {offer.licence}{state}")


@dataset.command("fetch")
@click.argument("name")
@click.option("--sha256", default="", help="What its SHA-256 has to be, where the catalogue does not know it.")
@click.option("--accept-unverified", is_flag=True, help="Take it without a checksum; prints what came.")
def fetch_command(name: str, sha256: str, accept_unverified: bool) -> None:
    """Download a dataset and add its pictures to the folder. What was cut off goes on where it ended."""
    offer = DATASETS.get(name)
    if offer is None:
        refuse(f"the catalogue has no {name[:64]!r}; it has {', '.join(DATASETS)}")
    assert offer is not None
    if sha256 and offer.verified and sha256 != offer.sha256:
        refuse(f"--sha256 is not that of the catalogue, which is {offer.sha256}")
    if not (offer.verified or sha256 or accept_unverified):
        refuse(f"no checksum of {name} is known; give --sha256 HEX, or --accept-unverified to take what comes")
    settings = settings_or_exit()
    folder = settings.fetched_dataset_dir
    file = folder / ".fetched" / f"{name}.zip"
    try:
        found = downloaded(offer, file, offer.sha256 or sha256)
        if not (offer.verified or sha256):
            click.echo(f"unverified: {name} has the SHA-256 {found}")
        added, left_out = unpack(file, folder)
    except Problem as problem:
        refuse(f"{name}: {problem}")
    except (ValueError, OSError) as error:
        refuse(str(error))
    file.unlink(missing_ok=True)
    click.echo(f"{name}: {added} pictures in {folder}" + (f", {left_out} other files left out" if left_out else ""))
    click.echo("a server has them after its next start")


def unpack(file: Path, folder: Path) -> tuple[int, int]:
    """Put the pictures of a ZIP archive into a folder, all of them or none; folders inside the archive do not count.

    Returns:
        How many pictures there were, and how many files that are none.
    Raises:
        Problem: it is no archive that can be read.
        ValueError: it holds no picture.
        OSError: the folder cannot be written.
    """
    left_out = 0
    with file.open("rb") as opened, tempfile.TemporaryDirectory(prefix=".unpacked-", dir=folder) as beside:
        archive = Archive(opened, _LIMITS)
        for entry in archive.entries:
            name = entry.name.replace("\\", "/").rpartition("/")[2]
            if not is_picture_name(name):
                left_out += 1
                continue
            content = archive.read(entry)
            try:
                read_header(content)
            except Problem:
                left_out += 1
                continue
            (Path(beside) / name).write_bytes(content)
        made = sorted(Path(beside).iterdir())
        if not made:
            raise ValueError(f"{file.name} holds no pictures")
        for path in made:
            shutil.move(path, folder / path.name)
    return len(made), left_out

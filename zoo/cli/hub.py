"""``zoo publish``, ``zoo pull`` and ``zoo cache``."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Annotated

import rich.box
import typer
from rich.table import Table

from zoo.cli.common import JsonOption, NameArgument, check_writable, out, write_json
from zoo.errors import InvalidInputError


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(publish)
    app.command()(pull)
    app.command()(cache)


def publish(
    name: NameArgument,
    repo: Annotated[str, typer.Argument(metavar="ORG/REPO", help="On the Hub; made if it does not exist.")],
    private: Annotated[bool, typer.Option("--private", help="If the repository is made: only you see it.")] = False,
    tag: Annotated[str, typer.Option(help="Names the commit, for example v1; never moved.")] = "",
    licence: Annotated[str, typer.Option(help="Of the weights, if the card does not say: an SPDX identifier.")] = "",
    message: Annotated[str, typer.Option("--message", "-m", help="Of the commit.")] = "",
    dry_run: Annotated[
        Path | None, typer.Option("--dry-run", metavar="DIR", help="Only write the whole repository into a folder.")
    ] = None,
    index: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write a pinned card, for a folder that ZOO_INDEX names.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the folder of --dry-run.")] = False,
) -> None:
    """Publish a model on the Hugging Face Hub: one commit, then the tag."""
    from zoo.hub import publish as publishing
    from zoo.hub.reference import check_repo
    from zoo.hub.sources import resolve
    from zoo.support.files import check_replaceable

    check_repo(repo)
    source = resolve(name)
    if source.reference is not None:
        raise InvalidInputError(f"{name} lies on the Hub already, at {source.reference}")
    if dry_run is not None:
        check_replaceable(dry_run, overwrite=overwrite)
        publishing.stage(source.directory, dry_run, repo, licence=licence, overwrite=overwrite)
        out.print(_files(repo, dry_run))
        out.print(f"nothing was published; the repository would be {dry_run}/", highlight=False)
        return
    with tempfile.TemporaryDirectory(prefix="nir-zoo-") as folder:
        staged = Path(folder) / "repo"
        card = publishing.stage(source.directory, staged, repo, licence=licence)
        done = publishing.publish(staged, repo, private=private, tag=tag, message=message)
    what = f"published {repo}" if done.changed else f"{repo} holds this already: nothing to publish"
    named = f", tag {done.tag}" if done.tag else ""
    out.print(f"{what}: commit {done.commit}{named}\n{done.url}", highlight=False)
    out.print(f'zoo.load("hf-hub:{repo}@{done.tag or done.commit}")', highlight=False, markup=False)
    if index is not None:
        out.print(f"pinned in {publishing.write_index_entry(index, card, done)}", highlight=False)


def _files(repo: str, folder: Path) -> Table:
    from zoo.hub.integrity import digest
    from zoo.hub.publish import files_of

    table = Table("file", "bytes", "sha256", box=rich.box.SIMPLE, title=repo)
    for name, path in files_of(folder).items():
        entry = digest(path)
        table.add_row(name, f"{entry.size:,}", entry.sha256[:16])
    return table


def pull(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A name of `zoo list`, or hf-hub:ORG/REPO@REVISION.")],
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit.")] = None,
    trainable: Annotated[bool, typer.Option("--trainable", help="Also the weights for fine-tuning.")] = False,
) -> None:
    """Fetch a model from the Hub into the cache and check it, so that it loads offline."""
    from zoo.hub.bundle import CARD, CONFIG, GRAPH, TRAINABLE, WEIGHTS
    from zoo.hub.integrity import read_manifest
    from zoo.hub.sources import resolve

    source = resolve(name, revision=revision)
    if source.reference is None:
        out.print(f"{name} lies on this machine already: {source.directory}", highlight=False)
        return
    there = read_manifest(source.directory).files
    optional = [GRAPH, *([TRAINABLE] if trainable else [])]
    wanted = [CARD, CONFIG, WEIGHTS, *(file for file in optional if file in there)]
    source.need(*wanted)
    size = sum(there[file].size for file in wanted)
    out.print(
        f"{source.reference}: {len(wanted)} files, {size / 1e6:.1f} MB, checked, in {source.directory}",
        highlight=False,
        soft_wrap=True,
    )


def cache(
    remove: Annotated[str | None, typer.Option(metavar="ORG/REPO", help="Delete a model from the cache.")] = None,
    json: JsonOption = None,
) -> None:
    """List the models in the Hub's cache, each hashed; exit code 1 where one is damaged."""
    from dataclasses import asdict

    from zoo.hub import cached

    check_writable(json)
    if remove is not None:
        out.print(f"{remove}: {cached.remove(remove) / 1e6:.1f} MB freed", highlight=False)
        return
    found = cached.cached()
    write_json(json, [asdict(one) | {"size": one.size} for one in found])
    if str(json) != "-":
        table = Table("repository", "commit", "known as", "files", "MB", "state", box=rich.box.SIMPLE)
        for one in found:
            state = f"damaged: {', '.join(one.damaged)}" if one.damaged else "intact"
            row = [one.repo, one.commit[:12], ", ".join(one.refs), str(len(one.files)), f"{one.size / 1e6:.1f}", state]
            table.add_row(*row, style="red" if one.damaged else None)
        out.print(table if found else "no model of the zoo is in the cache", highlight=False)
    if any(one.damaged for one in found):
        raise typer.Exit(1)

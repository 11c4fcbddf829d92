"""Training. The options are those of :class:`zoo.training.config.TrainConfig`, whose descriptions are their help."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from zoo.cli.common import parse_settings
from zoo.cli.interruptions import interruptible, say
from zoo.errors import DataWarning, InvalidInputError
from zoo.training.config import TrainConfig, make_train_config, setting_of, type_of

if TYPE_CHECKING:
    from zoo.detectors.detector import Detector

_WORDS = typer.Argument(
    metavar="ARCH | KEY=VALUE",
    help="Architecture, for example spikeyolo-pico, and any setting as KEY=VALUE, for example lr=1e-3.",
    show_default=False,
)
_OWN = {
    "words": Annotated[list[str] | None, _WORDS],
    "out_dir": Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Folder of the run; an interrupted one continues. By default runs/NAME."),
    ],
    "resume": Annotated[
        Path | None,
        typer.Option(
            "--resume", metavar="DIR", help="Continue the run of this folder with the settings that it began with."
        ),
    ],
    "config": Annotated[
        Path | None,
        typer.Option("--config", metavar="FILE", help="YAML file of settings; the command line overrides it."),
    ],
}
"""Parameters of the command that are no settings of a run."""


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("train")(_with_options(train))


def train(
    words: list[str] | None, *, out_dir: Path | None, resume: Path | None, config: Path | None, **given: Any
) -> None:
    """Train a detector in snnTorch, or continue an interrupted training. The model folder is OUT/model.

    Ctrl-C writes a checkpoint, prints the command that continues, and exits with code 130. An image that cannot be read is a
    warning, and another image takes its place.
    """
    from zoo.training.folder import read_run, resume_command
    from zoo.training.naming import default_name
    from zoo.training.product import train_model

    fields = _fields(words or [], config, given)
    if resume is not None:
        if out_dir not in (None, resume):
            raise InvalidInputError("--resume names the folder of the run: leave out --out")
        out_dir, fields = resume, _overriding(read_run(resume).model_dump(), fields)
    settings = make_train_config(**_with_arch(fields))
    folder = out_dir or Path("runs") / (settings.name or default_name(settings.arch, settings.data))
    with _warnings_as_lines(), interruptible(folder, resume_command(folder)):
        model = train_model(settings, folder, start=_start(settings, folder), say=say)
    say(f"trained model: {model}\nmeasure it: zoo val {model}")


def _fields(words: Sequence[str], config: Path | None, given: dict[str, Any]) -> dict[str, Any]:
    """Settings of the file and of the command line."""
    from zoo.training.settings import merge, parse_overrides, read_settings

    names = [word for word in words if "=" not in word]
    if len(names) > 1:
        raise InvalidInputError(
            f"one architecture is trained at a time, not {' and '.join(names)}; settings are KEY=VALUE"
        )
    line = {"arch": names[0]} if names else {}
    merge(line, parse_overrides([word for word in words if "=" in word]), what="KEY=VALUE")
    options = {name: value for name, value in given.items() if value is not None and value != []}
    options |= {name: parse_settings(value) for name, value in options.items() if type_of(name) is dict}
    merge(line, options, what="an option")
    return line if config is None else _overriding(read_settings(config), line)


def _overriding(fields: dict[str, Any], stronger: dict[str, Any]) -> dict[str, Any]:
    from zoo.training.settings import override

    return override(fields, stronger)


def _with_arch(fields: dict[str, Any]) -> dict[str, Any]:
    """The settings with the architecture of the model to start from, where none is given."""
    if fields.get("arch") is not None:
        return fields
    if not isinstance(fields.get("start"), str):
        raise InvalidInputError(
            "which architecture is to be trained? Name one, for example `zoo train spikeyolo-pico`, or a trained model: --from"
        )
    import zoo

    return {**fields, "arch": zoo.info(fields["start"]).arch}


def _start(settings: TrainConfig, folder: Path) -> Detector | None:
    """The model to start from; an interrupted run needs it no more."""
    from zoo.training.folder import has_checkpoint

    if settings.start is None or has_checkpoint(folder):
        return None
    import zoo

    return zoo.load(settings.start, trainable=True)


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Warnings of data as one line each on stderr, above the progress bar."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        sys.stderr.write(f"warning: {message}\n".encode(errors="backslashreplace").decode())

    with warnings.catch_warnings():
        warnings.simplefilter("always", DataWarning)
        warnings.showwarning = show
        yield


def _with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with one option for each setting, as typer reads them from a signature."""

    def wrapped(**arguments: Any) -> None:
        command(arguments.pop("words"), **arguments)

    options = {name: _option(name) for name in TrainConfig.model_fields if name != "arch"}
    annotations = {**_OWN, **options}
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in annotations.items()]
    wrapped.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    wrapped.__annotations__ = dict(annotations)
    wrapped.__doc__ = command.__doc__
    return wrapped


def _option(name: str) -> Any:
    field, setting, kind = TrainConfig.model_fields[name], setting_of(name), type_of(name)
    flags = setting.flags or (f"--{name.replace('_', '-')}",)
    if kind is bool:
        flags = (f"{flags[0]}/--no-{flags[0].removeprefix('--')}",)
    default = "" if field.default in (None, {}) else f" Default: {field.default}."
    option = typer.Option(
        *flags,
        help=f"{field.description}{default}",  # what was not given must be told from what was given as the default
        rich_help_panel=setting.panel,
        metavar="NAME=VALUE" if kind is dict else None,
    )
    return Annotated[(list[str] if kind is dict else kind) | None, option]

"""From a finished run to a model folder."""

from __future__ import annotations

import shlex
import warnings
from pathlib import Path

from zoo.detectors.detector import Detector
from zoo.errors import DataWarning, TrainingError, ZooError
from zoo.hub import bundle
from zoo.support.provenance import command_line, origin
from zoo.training.config import TrainConfig, fields_of, make_train_config, setting_of
from zoo.training.folder import resume_command
from zoo.training.loop import Say, train
from zoo.training.naming import default_name

MODEL = "model"
LONGEST_TEXT = 4000
"""Of a text in a model card."""


def train_model(
    config: TrainConfig,
    out_dir: str | Path,
    *,
    name: str | None = None,
    start: Detector | None = None,
    say: Say = lambda _: None,
) -> Path:
    """Train a detector, or finish an interrupted run, and write its deployed form to ``out_dir/model``.

    Args:
        config: settings.
        out_dir: folder of the run.
        name: of the model, instead of that of the settings; by default made of architecture and data set.
        start: go on from this detector, in training form, instead of random weights; ``config.start`` names where it is from.
        say: receives what is worth knowing before the first step, a sentence at a time.

    Returns:
        The model folder. One that is there already is left as it is: the run is finished.

    Raises:
        ZooError: see :func:`zoo.training.loop.train` and :func:`zoo.hub.bundle.write`.
    """
    config = make_train_config(**{**config.model_dump(), "name": name or config.name})
    folder = Path(out_dir) / MODEL
    model_name = config.name or default_name(config.arch, config.data)
    say(f"the model will be called {model_name}")
    detector = train(config, out_dir, start=start, say=say)
    if folder.exists():
        return folder
    try:
        _write(folder, detector, config, model_name, start)
    except (OSError, ZooError) as error:
        raise TrainingError(
            f"the training is finished and its last checkpoint intact, but the model folder could not be written: {error}. Put "
            f"this right, then write it by `{resume_command(out_dir)}`"
        ) from error
    return folder


def _write(folder: Path, detector: Detector, config: TrainConfig, name: str, start: Detector | None) -> None:
    made = f"{config.steps} steps of {config.batch_size} {'clips' if detector.config.input.events else 'images'}"
    fields = {
        "name": name,
        "dataset": config.data[:LONGEST_TEXT],
        "description": f"Trained from {_origin(config, start)} on {config.data}: {made}, seed {config.seed}."[
            :LONGEST_TEXT
        ],
        "provenance": {**origin(), "command": _command(config, folder.parent, start)[:LONGEST_TEXT]},
    }
    # a network that has no exact graph, such as an ANN that is still to be converted, is not lost: the card says why
    bundle.write(
        folder, detector.fuse(), card_fields=fields, trainable_state=detector.state_dict(), require_graph=False
    )
    if not (folder / bundle.GRAPH).exists():
        reason = bundle.read_card_of(folder).description.splitlines()[-1]
        warnings.warn(f"the model loads in snnTorch only. {reason}", DataWarning, stacklevel=2)


def recipe_command(config: TrainConfig, out_dir: str | Path) -> str:
    """The command line that repeats a run from its first step."""
    words = ["zoo", "train", config.arch]
    for field in ["data", *fields_of("recipe"), "threads", "device", "name"]:
        value = getattr(config, field)
        if field == "arch" or value == TrainConfig.model_fields[field].default:
            continue
        flag = (*setting_of(field).flags, f"--{field.replace('_', '-')}")[0]
        if isinstance(value, dict):
            words += [word for key, one in value.items() for word in (flag, f"{key}={one}")]
        elif isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            words += [flag, str(value)]
    line = shlex.join([*words, "--out", str(out_dir)])
    return line.encode("utf-8", "backslashreplace").decode()  # a card is text, and the name of a folder may be none


def _command(config: TrainConfig, out_dir: Path, start: Detector | None) -> str:
    """What made the weights; a detector that was passed as an object has no name that could be repeated."""
    return recipe_command(config, out_dir) if start is None or config.start else command_line()


def _origin(config: TrainConfig, start: Detector | None) -> str:
    if config.start is not None:
        return f"the weights of {config.start}"
    if start is None:
        return "random weights"
    if start.card is None:
        return "other weights"
    made = start.card.provenance
    return f"the weights made by {made.command} (commit {made.commit[:12]})"

"""The data sets of a run: which split, and how many images of it."""

from __future__ import annotations

from collections.abc import Sequence

from zoo.config import InputSpec
from zoo.data import is_generated, open_dataset, split_of
from zoo.data.sample import DetectionDataset
from zoo.errors import DataError, MissingFrameworkError
from zoo.training.config import TrainConfig

GENERATED_IMAGES, GENERATED_VALIDATION = 30_000, 200
VALIDATION_SEED = 1  # `zoo val` measures on seed 0
TRAINED, VALIDATED = ("train", "trainval"), ("val", "test")
"""Splits that are used where none is named, in order."""


def open_training_set(config: TrainConfig, spec: InputSpec) -> DetectionDataset:
    """The images to train on: all of a folder, unless fewer are asked for.

    Raises:
        DataError: no such data set or split, or one without classes.
    """
    made = is_generated(config.data)
    dataset = open_dataset(
        config.data,
        config.split or ("train" if made else None),
        prefer=TRAINED,
        length=config.train_length or (GENERATED_IMAGES if made else None),
        seed=config.seed,
        image_size=config.image_size,
        spec=spec,
    )
    if not dataset.class_names:
        raise DataError(f"there is nothing to train on: {config.data} has no classes")
    return dataset


def open_validation_set(config: TrainConfig, spec: InputSpec, class_names: Sequence[str]) -> DetectionDataset | None:
    """The images to measure mAP on while training, or None where none is measured.

    Raises:
        DataError: no such data set or split, or other classes than those that are trained.
        MissingFrameworkError: what measures mAP is not installed.
    """
    if not config.validate_every:
        return None
    try:
        import faster_coco_eval  # noqa: F401
    except ImportError as error:
        raise MissingFrameworkError("measuring mAP needs faster-coco-eval: pip install 'nir-zoo[eval]'") from error
    made = is_generated(config.data)
    dataset = open_dataset(
        config.data,
        config.validate_split or ("test" if made else None),
        prefer=VALIDATED,
        length=config.validate_length or (GENERATED_VALIDATION if made else None),
        seed=VALIDATION_SEED,
        image_size=config.image_size,
        spec=spec,
    )
    if sorted(dataset.class_names) != sorted(class_names):
        strange = [name for name in dataset.class_names if name not in class_names]
        raise DataError(
            f"the split {split_of(dataset)!r} has {len(dataset.class_names)} classes and the training has {len(class_names)}; "
            f"only the split has {', '.join(map(repr, strange[:5])) or 'none'}: choose another --val-split"
        )
    return dataset

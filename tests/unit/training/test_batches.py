"""Order and content of batches."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
import torch

from zoo.config import InputSpec
from zoo.data.sample import AnySample, Sample
from zoo.errors import CorruptFileError, DataError, FileMissingError, TrainingError
from zoo.training.batches import Batches, collate

SPEC = InputSpec(image_size=(32, 32))


class Counting:
    """Pictures that carry their index, and a count of how often they were made."""

    class_names = ("a", "b")

    def __init__(self, length: int) -> None:
        self.length = length
        self.made = 0

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Sample:
        self.made += 1
        count = index % 3  # some without objects
        boxes = np.tile(np.array([1, 2, 9, 12], np.float32), (count, 1))
        return Sample(np.full((32, 32, 3), index, np.uint8), boxes, np.full(count, index % 2, np.int64), index)


def batches(length: int = 10, **arguments: Any) -> Batches:
    return Batches(Counting(length), SPEC, **({"batch_size": 4, "seed": 0} | arguments))


def test_an_epoch_shows_each_picture_at_most_once_and_then_reshuffles() -> None:
    source = batches()
    epochs = [source.indices(2 * epoch) + source.indices(2 * epoch + 1) for epoch in range(3)]
    for epoch in epochs:
        assert len(set(epoch)) == 8
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_order_depends_on_seed_and_step_alone() -> None:
    forward = [batches().indices(step) for step in range(7)]
    source = batches()
    backward = [source.indices(step) for step in reversed(range(7))]
    assert forward == backward[::-1]
    assert forward != [batches(seed=1).indices(step) for step in range(7)]


@pytest.mark.parametrize("cache_bytes", [0, 5 * 32 * 32 * 3, 2**30])
def test_the_cache_changes_work_not_content(cache_bytes: int) -> None:
    source, dataset = batches(cache_bytes=cache_bytes), Counting(10)
    source.dataset = dataset
    expected = [collate([dataset[i] for i in source.indices(step)], SPEC)[0] for step in range(6)]
    dataset.made = 0
    for step in range(6):
        assert torch.equal(source[step][0], expected[step])
    if cache_bytes == 0:
        assert dataset.made == 24
    elif cache_bytes == 2**30:
        assert dataset.made <= 10


@pytest.mark.parametrize("beside_jax", [False, True])
def test_worker_processes_change_nothing(beside_jax: bool) -> None:
    if beside_jax:  # whose threads do not survive a fork
        pytest.importorskip("jax")
    torch.manual_seed(0)
    before = torch.get_rng_state()
    alone = list(batches().iterate(3, 8))
    helped = list(batches().iterate(3, 8, workers=2))
    assert len(alone) == len(helped) == 5
    for (images, targets, _), (same_images, same_targets, _) in zip(alone, helped, strict=True):
        assert torch.equal(images, same_images)
        assert torch.equal(targets.boxes, same_targets.boxes)
        assert torch.equal(targets.labels, same_targets.labels)
        assert torch.equal(targets.valid, same_targets.valid)
    assert torch.equal(before, torch.get_rng_state())


def test_padding_marks_what_is_no_object() -> None:
    images, targets = collate([Counting(3)[i] for i in (2, 0, 1)], SPEC)
    assert images.shape == (3, 3, 32, 32)
    assert targets.valid.tolist() == [[True, True], [False, False], [True, False]]
    assert targets.boxes[0, 1].tolist() == [1, 2, 9, 12]


def test_boxes_follow_the_picture_into_the_letterbox() -> None:
    sample = Sample(np.zeros((16, 32, 3), np.uint8), np.array([[0, 0, 32, 16]], np.float32), np.zeros(1, np.int64), 0)
    _, targets = collate([sample], InputSpec(image_size=(64, 64)))
    assert targets.boxes[0, 0].tolist() == [0, 16, 64, 48]


def test_a_batch_is_never_larger_than_the_set() -> None:
    source = batches(3)
    assert sorted(source.indices(0)) == [0, 1, 2]
    with pytest.raises(DataError, match="nothing to train on"):
        batches(0)


class Damaged(Counting):
    """Some images cannot be read."""

    def __init__(self, length: int, wrong: dict[int, Exception]) -> None:
        super().__init__(length)
        self.wrong = wrong

    def __getitem__(self, index: int) -> Sample:
        if index in self.wrong:
            raise self.wrong[index]
        return super().__getitem__(index)


def damaged(wrong: dict[int, Exception], length: int = 10, **arguments: Any) -> Batches:
    return Batches(Damaged(length, wrong), SPEC, **({"batch_size": 5, "seed": 0} | arguments))


WRONG = {3: CorruptFileError("3.jpg is truncated"), 4: FileMissingError("there is no file 4.jpg"), 9: OSError(5, "I/O")}


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_replaced_by_the_next_one(workers: int) -> None:
    source = damaged(WRONG)
    stands_for = {3: 5, 4: 5, 9: 0}
    seen = set()
    for step, batch in zip(range(4), source.iterate(0, 4, workers=workers), strict=True):
        wanted = source.indices(step)
        shown = (batch.images[:, 0, 0, 0] * 255).round().int().tolist()
        assert shown == [stands_for.get(index, index) for index in wanted]
        reasons = {str(WRONG[index]) for index in WRONG if index in wanted or (index == 4 and 3 in wanted)}
        assert set(batch.unreadable) == reasons
        seen |= reasons
    assert len(seen) == 3


def test_a_disk_that_is_gone_ends_the_run() -> None:
    gone: dict[int, Exception] = {index: FileMissingError(f"there is no file {index}.jpg") for index in range(10)}
    with pytest.raises(DataError, match=r"10 images in a row cannot be read\. The first: there is no file"):
        damaged(gone)[0]
    many: dict[int, Exception] = {index: FileMissingError("gone") for index in range(2, 5000)}
    with pytest.raises(DataError, match="100 images in a row"):
        damaged(many, length=5000, batch_size=1000)[0]


def test_errors_of_a_program_are_not_taken_for_bad_images() -> None:
    with pytest.raises(ZeroDivisionError):
        damaged(dict.fromkeys(range(10), ZeroDivisionError()))[0]


def darken(sample: AnySample, rng: np.random.Generator) -> AnySample:
    assert isinstance(sample, Sample)
    return Sample((sample.image * rng.uniform(0, 1)).astype(np.uint8), sample.boxes, sample.labels, sample.image_id)


def test_augmentation_depends_on_seed_and_step_alone() -> None:
    """The same with and without workers, with and without the cache, and from any step on; another one each epoch."""

    def images(start: int, **arguments: Any) -> list[torch.Tensor]:
        workers = arguments.pop("workers", 0)
        made = Batches(Counting(200), SPEC, batch_size=100, seed=arguments.pop("seed", 0), augment=darken, **arguments)
        return [batch.images for batch in made.iterate(start, 4, workers=workers)]

    whole = images(0)
    for other in (images(0, workers=2), images(0, cache_bytes=0)):
        assert all(torch.equal(one, two) for one, two in zip(whole, other, strict=True))
    assert all(torch.equal(one, two) for one, two in zip(whole[2:], images(2), strict=True))
    assert not torch.equal(whole[0], images(0, seed=1)[0])
    source = Batches(Counting(200), SPEC, batch_size=100, seed=0)
    where = [(step, row) for step in range(4) for row, index in enumerate(source.indices(step)) if index == 199]
    brightness = [float(whole[step][row].mean()) for step, row in where]
    assert len(set(brightness)) == 2  # once in each of two epochs


def die(sample: AnySample, rng: np.random.Generator) -> AnySample:
    del sample, rng
    os._exit(3)


def test_a_worker_that_ends_is_one_clear_error() -> None:
    made = Batches(Counting(10), SPEC, batch_size=5, seed=0, augment=die)
    with pytest.raises(TrainingError, match=r"a process that prepares images ended .*--workers 0"):
        list(made.iterate(0, 2, workers=1))

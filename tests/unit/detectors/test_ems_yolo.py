"""EMS-YOLO in its native form: sizes, training, fusing, export, and what it refuses."""

from __future__ import annotations

from pathlib import Path

import nir
import pytest
import torch

import zoo
from tests.conftest import lively_detector
from zoo.equivalence.verification import verify_in_each
from zoo.errors import ConfigError, ExportError
from zoo.heads.anchors import AnchorLoss, match
from zoo.heads.boxes import Targets
from zoo.nir_graphs import io
from zoo.nir_graphs.certificate import PIXELS

PARAMETERS = {  # with 80 classes, as measured in the facts
    "resnet10": 17_561_662,
    "resnet18": 15_427_774,
    "resnet34": 34_027_454,
    "resnet34-cat": 25_449_022,
    "res10-ee": 6_387_230,
    "res18-ee": 9_523_550,
}


@pytest.mark.parametrize("size", sorted(PARAMETERS))
def test_published_sizes_have_their_number_of_parameters(size: str) -> None:
    detector = zoo.create(f"ems-yolo-{size}", num_classes=80)
    assert sum(p.numel() for p in detector.parameters()) == PARAMETERS[size]
    assert detector.time_steps == 4


def test_heads_have_the_shapes_of_the_contract() -> None:
    detector = lively_detector("ems-yolo-pico", num_classes=10)
    with torch.no_grad():
        maps = detector(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [(2, 45, 8, 12), (2, 45, 4, 6)]
    decoded = detector.decode(maps)
    assert decoded.shape == (2, 14, 3 * (8 * 12 + 4 * 6))


def test_every_parameter_learns() -> None:
    detector = lively_detector("ems-yolo-pico", num_classes=10).train()
    targets = Targets(torch.tensor([[3], [3]]), torch.tensor([[[10.0, 10, 30, 34]]] * 2), torch.ones(2, 1).bool())
    assert detector.config.decode.anchors is not None
    loss = AnchorLoss(detector.config.decode.strides, detector.config.decode.anchors, 10)
    parts = loss(detector(torch.rand(2, 3, 64, 64)), targets)
    assert set(parts) == {"box", "cls", "obj"}
    torch.stack(list(parts.values())).sum().backward()
    for name, parameter in detector.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_fused_and_unfused_fire_alike() -> None:
    detector = lively_detector("ems-yolo-pico", num_classes=10).double()
    images = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        for one, other in zip(detector(images), detector.fuse(dtype=torch.float64)(images), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 4])
def test_every_spike_is_the_same_on_norse_and_jax(steps: int) -> None:
    detector = lively_detector("ems-yolo-pico", num_classes=10, time_steps=steps)
    (report,) = verify_in_each(
        detector, ["norse", "jax"], images={"noise": torch.rand(1, 3, 64, 64)}, dtypes=[torch.float64]
    )
    assert report.passed
    for row in report.comparisons[1:]:
        assert row.own_cells == ((21, 21) if row.backend == "norse" else (0, 21))
        assert row.expected > 1000


def test_every_neuron_is_a_lif_and_every_synapse_behind_the_stem_sees_spikes() -> None:
    graph = lively_detector("ems-yolo-pico", num_classes=10).fuse().to_nir((64, 64))
    assert sum(isinstance(node, nir.LIF) for node in graph.nodes.values()) == 21
    assert not any(isinstance(node, nir.Delay) for node in graph.nodes.values())
    found = zoo.certify(graph, inputs=PIXELS, time_steps=4)
    sources: dict[str, list[str]] = {}
    for source, target in graph.edges:
        sources.setdefault(target, []).append(source)
    for name, node in graph.nodes.items():
        if isinstance(node, nir.Conv2d) and not name.startswith(("stem", "upsample")):  # which only moves values
            assert all(found.nodes[source].grid in (0, None) for source in sources[name]), name


@pytest.mark.slow
@pytest.mark.parametrize("size", sorted(PARAMETERS))
def test_published_sizes_export_at_640_and_load_in_stock_nir(size: str, tmp_path: Path) -> None:
    detector = zoo.create(f"ems-yolo-{size}", num_classes=80).fuse()
    path = io.write(detector.to_nir((640, 640)), tmp_path / "model.nir")
    graph = nir.read(path, type_check=False)
    assert sum(isinstance(node, nir.Output) for node in graph.nodes.values()) == 2


@pytest.mark.parametrize("form", ["native", "official"])
@pytest.mark.parametrize("size", sorted(PARAMETERS))
def test_every_variant_trains_a_step(size: str, form: str) -> None:
    detector = zoo.create(f"ems-yolo-{size}", num_classes=2, time_steps=2, form=form).train()
    assert detector.config.decode.anchors is not None
    loss = AnchorLoss(detector.config.decode.strides, detector.config.decode.anchors, 2)
    target = Targets(torch.tensor([[1]]), torch.tensor([[[8.0, 8, 40, 40]]]), torch.ones(1, 1).bool())
    torch.stack(list(loss(detector(torch.rand(1, 3, 64, 64)), target).values())).sum().backward()
    gradient = dict(detector.network.named_parameters())["stem.conv.weight"].grad
    assert gradient is not None
    assert gradient.isfinite().all()
    torch.optim.SGD(detector.parameters(), lr=0.01).step()


def test_the_official_form_refuses_export() -> None:
    with pytest.raises(ExportError, match="no exact NIR form"):
        zoo.create("ems-yolo-res10-ee", num_classes=2, form="official").to_nir((64, 64))
    with pytest.raises(ConfigError, match="form must be"):
        zoo.create("ems-yolo-pico", num_classes=2, form="published")


def test_published_size_exports_small() -> None:
    graph = zoo.create("ems-yolo-resnet10", num_classes=80).fuse().to_nir((64, 64))
    assert sum(isinstance(node, nir.LIF) for node in graph.nodes.values()) > 10


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"levels": 4}, "levels must be 1"),
        ({"decay": 1.5}, "decay must lie in"),
        ({"image_size": 100}, "multiples of 16"),
        ({"depth": 3}, "takes no argument depth"),
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        zoo.create("ems-yolo-pico", num_classes=10, **arguments)


# The loss.


def one_target(box: list[float]) -> Targets:
    return Targets(torch.tensor([[2]]), torch.tensor([[box]], dtype=torch.float32), torch.ones(1, 1).bool())


def test_an_object_is_learned_in_its_cell_and_the_two_nearest_ones() -> None:
    anchors = torch.tensor([[16.0, 16.0], [100.0, 100.0]])
    found = match(one_target([35, 43, 51, 59]), anchors, 8, (12, 12))  # centre (43, 51): cell (5, 6), at (0.375, 0.375)
    assert set(found.anchor.tolist()) == {0}  # the other one is six times as large
    cells = set(zip(found.column.tolist(), found.row.tolist(), strict=True))
    assert cells == {(5, 6), (4, 6), (5, 5)}
    assert (found.labels == 2).all()
    centres = found.boxes[:, :2] + torch.stack([found.column, found.row], 1)
    torch.testing.assert_close(centres, torch.tensor([[43 / 8, 51 / 8]]).expand(3, 2))
    torch.testing.assert_close(found.boxes[:, 2:], torch.full((3, 2), 2.0))


def test_no_cell_outside_the_picture_learns() -> None:
    found = match(one_target([0, 0, 6, 6]), torch.tensor([[8.0, 8.0]]), 8, (4, 4))
    assert set(zip(found.column.tolist(), found.row.tolist(), strict=True)) == {(0, 0)}


def test_a_perfect_prediction_has_no_box_loss_and_pictures_without_objects_are_fine() -> None:
    anchors = (((16.0, 16.0),),)
    loss = AnchorLoss((8,), anchors, 3)
    empty = Targets(torch.zeros(1, 1).long(), torch.zeros(1, 1, 4), torch.zeros(1, 1).bool())
    raw = torch.full((1, 8, 4, 4), -20.0)
    parts = loss([raw], empty)
    assert float(parts["box"]) == 0
    assert float(parts["obj"]) < 1e-6
    target = one_target([4, 4, 20, 20])  # centre (12, 12), as large as the anchor
    found = match(target, torch.tensor(anchors[0]), 8, (4, 4))
    for box, row, column in zip(found.boxes, found.row, found.column, strict=True):
        share = (box[:2] + 0.5) / 2
        raw[0, :2, row, column] = torch.logit(share)
        raw[0, 2:4, row, column] = 0.0  # (2 sigmoid(0))^2 = 1 anchor
        raw[0, 4, row, column] = 20.0
        raw[0, 5:, row, column] = torch.tensor([-20.0, -20.0, 20.0])
    parts = loss([raw], target)
    assert all(float(part.detach()) < 1e-5 for part in parts.values()), parts

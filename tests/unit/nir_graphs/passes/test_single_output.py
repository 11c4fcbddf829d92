"""One Output for several maps: each map is at its place, to the bit; what cannot be merged is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from zoo.errors import InvalidGraphError
from zoo.nir_graphs import metadata, reference
from zoo.nir_graphs.graph import FlatGraph
from zoo.nir_graphs.normalise import normalise
from zoo.nir_graphs.passes.single_output import single_output

Make = Callable[..., FlatGraph]


def heads(
    shapes: list[tuple[int, ...]], *, listed: list[int] | None = None, channels: int = 3, **nodes: nir.NIRNode
) -> FlatGraph:
    """A neuron on each of several maps, pooled from one; the zoo's note lists the Outputs in another order."""
    size = np.array([channels, 8, 8])
    made: dict[str, Any] = {"input": nir.Input(size), **nodes}
    edges = []
    for index, (depth, height, width) in enumerate(shapes):
        weight = np.random.default_rng(index).integers(-3, 4, (depth, channels, 9 - height, 9 - width))
        threshold = np.rint(4 * np.sqrt(weight[0].size)) + 0.5
        made |= {
            f"head{index}": nir.Conv2d((8, 8), weight.astype(np.float32), 1, 0, 1, 1, np.zeros(depth, np.float32)),
            f"fire{index}": nir.IF(*(np.full((depth, height, width), n) for n in (1.0, threshold, 0.0))),
            f"out{index}": nir.Output(np.array((depth, height, width))),
        }
        edges += [("input", f"head{index}"), (f"head{index}", f"fire{index}"), (f"fire{index}", f"out{index}")]
    edges += [("input", name) for name in nodes if not isinstance(nodes[name], nir.Input)]
    graph = nir.NIRGraph(made, edges, metadata={}, type_check=False)
    outputs = [{"node": f"out{index}", "stride": 2**index} for index in listed or range(len(shapes))]
    return normalise(metadata.put(graph, metadata.GraphInfo(outputs=outputs)))


def spikes(graph: FlatGraph) -> reference.Trace:
    x = np.random.default_rng(0).integers(-1, 4, (16, 16, 3, 8, 8)).astype(float)
    return reference.run(graph, x, record="all")


@pytest.mark.parametrize("listed", [[0, 1, 2], [2, 0, 1]])
@pytest.mark.parametrize("shapes", [[(2, 8, 8), (2, 4, 4), (2, 2, 2)], [(1, 1, 8), (1, 8, 1), (1, 3, 5)]])
def test_every_map_is_at_its_place(shapes: list[tuple[int, ...]], listed: list[int]) -> None:
    graph = heads(shapes, listed=listed)
    merged, notes = single_output(graph)
    assert merged.outputs == ("output",)
    assert notes[0].kind == "outputs"
    before, after = spikes(graph), spikes(merged)
    together = after.outputs["output"]
    rest = together.copy()
    for place, index in zip(merged.info.outputs, listed, strict=True):
        window = np.s_[..., place["top"] : place["top"] + place["height"], : place["width"]]
        np.testing.assert_array_equal(together[window], before.outputs[f"out{index}"])
        assert 0.02 < together[window].mean() < 0.6
        assert place["stride"] == 2**index
        rest[window] = 0
    assert not rest.any()
    for name, values in before.spikes.items():
        np.testing.assert_array_equal(after.spikes[name], values)


def test_a_wrong_place_would_be_seen() -> None:
    merged, _ = single_output(heads([(2, 8, 8), (2, 4, 4)]))
    first, second = merged.info.outputs
    values = spikes(merged).outputs["output"]
    assert (
        values[..., : second["height"], : second["width"]] != values[..., first["height"] :, : second["width"]]
    ).any()


def test_one_output_stays_as_it_is() -> None:
    graph = heads([(2, 8, 8)])
    merged, notes = single_output(graph)
    assert (merged.outputs, notes) == (("out0",), ())


def test_the_note_of_others_gives_no_order() -> None:
    graph = heads([(2, 8, 8), (2, 4, 4)], listed=[1, 1])
    merged, _ = single_output(graph)
    assert [place["height"] for place in merged.info.outputs] == [8, 4]


def test_maps_of_different_channels_are_refused_by_name() -> None:
    with pytest.raises(InvalidGraphError, match=r"'out0' \(2, 8, 8\), 'out1' \(3, 4, 4\)"):
        single_output(heads([(2, 8, 8), (3, 4, 4)]))


def test_outputs_that_are_no_maps_are_refused(make: Make) -> None:
    size = np.array([3, 2, 2])
    nodes = {
        "input": nir.Input(size), "flat": nir.Flatten({"input": size}, 0, -1),
        "map": nir.Output(size), "vector": nir.Output(np.array([12])),
    }  # fmt: skip
    with pytest.raises(InvalidGraphError, match=r"only maps .* 'vector' \(12,\)"):
        single_output(make(nodes, [("input", "flat"), ("input", "map"), ("flat", "vector")]))


def test_a_node_of_the_new_name_is_refused_and_names_of_places_do_not_collide() -> None:
    taken = {"output": nir.Scale(np.ones((3, 8, 8)))}
    with pytest.raises(InvalidGraphError, match="'output', but the graph has another node of that name"):
        single_output(heads([(2, 8, 8), (2, 4, 4)], **taken))
    graph = heads([(2, 8, 8), (2, 4, 4)], **{"out0.place": nir.Scale(np.ones((3, 8, 8)))})
    assert {"out0.place", "out0.place_"} <= set(single_output(graph)[0].nodes)

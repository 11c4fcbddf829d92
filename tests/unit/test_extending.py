"""``docs/extending.md`` is true: its listings, put where they say, add a node type, a backend, a lowering rule and a fusion.

They go into a copy of the two rooms; everything else of the package is linked. What is added runs in a process of its own, on
every backend, against equations written here.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import zoo

ROOT = Path(zoo.__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
ROOMS = ("nir_graphs", "adapters")
START = '''
"""Types that NIR may gain."""
from dataclasses import dataclass

import nir
import numpy as np


@dataclass(eq=False)
class Offset(nir.NIRNode):
    offset: np.ndarray

    def __post_init__(self):
        self.input_type = self.output_type = {"input": np.array(self.offset.shape)}


@dataclass(eq=False)
class DecayLIF(nir.NIRNode):
    decay: np.ndarray
    v_threshold: np.ndarray
    v_reset: np.ndarray

    def __post_init__(self):
        self.input_type = self.output_type = {"input": np.array(self.decay.shape)}


nir.Offset, nir.DecayLIF = Offset, DecayLIF
'''
PROGRAMS = {
    "node types": """
import nir, numpy as np, torch
from zoo.adapters.base import BACKENDS, get_backend
from zoo.errors import InvalidGraphError
from zoo.nir_graphs import certificate
from zoo.nir_graphs.normalise import normalise

decay, threshold, offset = np.full(3, 0.5), np.array([0.25, 0.5, 0.75]), np.array([0.25, 0.0, -0.25])
weight = np.array([[0.0, 0.5, 0.0], [-0.5, 0.0, 0.25], [0.0, 0.25, -0.5]])
nodes = {
    "in": nir.Input({"input": np.array([3])}), "shift": nir.Offset(offset),
    "n": nir.DecayLIF(decay, threshold, np.zeros(3)), "w": nir.Linear(weight), "out": nir.Output({"output": np.array([3])}),
}
edges = [("in", "shift"), ("shift", "n"), ("n", "w"), ("w", "n"), ("n", "out"), ("in", "out")]
graph = nir.NIRGraph(nodes, edges, type_check=False)
x = np.random.default_rng(0).integers(-4, 9, (20, 16, 3)) / 4
v, z, right = np.zeros((16, 3)), np.zeros((16, 3)), []
for now in x:  # the neuron's output acts one step later: what makes it a neuron is its row of facts
    v = v + 0.5 * ((now + offset + z @ weight.T) - v)
    z = (v > threshold).astype(float)
    v = np.where(z, 0.0, v)
    right.append(z + now)
assert 0.05 < (np.stack(right) - x).mean() < 0.7
for backend in BACKENDS:
    trace = get_backend(backend).build(graph, dtype=torch.float64).run(torch.from_numpy(x), record="all")
    assert np.array_equal(trace.outputs["out"], np.stack(right)), backend
    assert set(trace.spikes) == {"n"}, backend
    for broken in (nir.Offset(np.full(3, np.nan)), nir.DecayLIF(decay, np.ones(2), np.zeros(3))):
        wrong = nir.NIRGraph({**nodes, "shift": broken}, edges, type_check=False)
        try:
            get_backend(backend).build(wrong)
        except InvalidGraphError as error:
            assert "'shift'" in str(error)
        else:
            raise AssertionError(backend)
assert normalise(normalise(graph).to_nir()).nodes.keys() == normalise(graph).nodes.keys()
found = certificate.certify(graph, inputs=certificate.SPIKES, time_steps=4)
assert not found.certified and "Offset" in str(found.why), found.why
from zoo.equivalence.conformance.cases import all_cases
for name in ("offset", "decay-lif"):
    graph, x = all_cases()[name].make()
    results = [get_backend(b).build(graph, dt=1, dtype=torch.float64)(torch.from_numpy(x)) for b in BACKENDS]
    for result in results[1:]:
        for output, value in result.items():
            assert torch.equal(value.detach(), results[0][output]), name
print("fine")
""",
    "backend": """
import torch
from zoo.adapters.base import BACKENDS, get_backend
from zoo.equivalence.conformance.cases import all_cases

assert "plain" in BACKENDS
for name in ("offset", "decay-lif", "lif"):
    graph, x = all_cases()[name].make()
    plain, reference = (get_backend(b).build(graph, dt=1, dtype=torch.float64) for b in ("plain", "reference"))
    for output, value in plain(torch.from_numpy(x)).items():
        assert torch.equal(value.detach(), reference(torch.from_numpy(x))[output])
    assert plain.own_cells[0] == 0
print("fine")
""",
    "lowering rule": """
import torch
from torch import nn
from zoo.adapters.base import get_backend
from zoo.errors import ExportError
from zoo.nir_graphs import export

net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Dropout(0.5), nn.Conv2d(3, 2, 1))
try:
    export.export_module(net.train(), (2, 5, 5))
except ExportError as error:
    assert "eval mode" in str(error) and "Dropout" in str(error), error
else:
    raise AssertionError
graph = export.export_module(net.eval(), (2, 5, 5))
x = torch.rand(4, 2, 5, 5)
(out,) = get_backend("snntorch").build(graph)(x[None]).values()
assert torch.equal(out[0].detach(), net(x).detach())
print("fine")
""",
    "fusion": """
import nir, numpy as np, torch
from zoo.adapters.base import get_backend
from zoo.adapters.fusions.gain import Gain, Multiply

nodes = {"in": nir.Input({"input": np.array([3])}), "a": nir.Scale(np.full(3, 2.0)), "b": nir.Scale(np.full(3, 0.25)),
         "c": nir.Scale(np.full(3, 3.0)), "out": nir.Output({"output": np.array([3])})}
edges = [("in", "a"), ("a", "b"), ("b", "c"), ("c", "out")]
graph = nir.NIRGraph(nodes, edges, type_check=False)
fused, single = (get_backend("norse").build(graph, fuse=fuse) for fuse in (True, False))
assert [type(m) for m in fused.modules()].count(Multiply) == 1 and len(fused.plan()) == len(single.plan()) - 1
x = torch.randn(8, 16, 3)
assert torch.equal(fused(x)["out"], single(x)["out"])
assert np.array_equal(fused.run(x, record=["a"]).potentials["a"], 2 * x.numpy())
print("fine")
""",
}


def listings() -> list[tuple[str, str, str, str]]:
    """(file, ``in``, ``before`` or nothing, table, lines) of every listing."""
    found = re.findall(r"```python\n# ([\w/.]+\.py)(?:, (in|before) (\w+))?\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert len(found) == PAGE.read_text().count("```python")
    return found


def put(text: str, where: str, table: str, lines: str) -> str:
    """The text of a file with a listing in its place: the first place in a table, or in front of it."""
    rows = text.splitlines(keepends=True)
    start = next(i for i, row in enumerate(rows) if re.match(rf"(def )?{table}\b", row))
    if where == "before":
        return "".join([*rows[:start], lines, "\n\n", *rows[start:]])
    if table == "FACTS":  # a table that is made from a tuple of rows
        start = next(i for i in range(start, len(rows)) if "for facts in (" in rows[i])
    opening = next(i for i in range(start, len(rows)) if re.search(r"[\[({:]\n$", rows[i]))
    indent = " " * (8 if table == "FACTS" else 4)
    return "".join([*rows[: opening + 1], *(indent + line + "\n" for line in lines.splitlines()), *rows[opening + 1 :]])


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package with everything in it that the page adds."""
    root = tmp_path_factory.mktemp("extended")
    (root / "zoo").mkdir()
    copied = {"equivalence", *ROOMS}
    for item in (ROOT / "zoo").iterdir():
        if item.name in copied:
            shutil.copytree(item.resolve(), root / "zoo" / item.name, ignore=shutil.ignore_patterns("__pycache__"))
        elif item.name != "__pycache__":
            (root / "zoo" / item.name).symlink_to(item.resolve())
    for file, where, table, lines in listings():
        path = root / "zoo" / file.removeprefix("zoo/")
        path.write_text(put(path.read_text(), where, table, lines) if where else lines)
    (root / "gains.py").write_text(START)
    return root


@pytest.mark.parametrize("what", PROGRAMS)
def test_what_the_page_adds_works(what: str, extended: Path) -> None:
    program = f"import gains\n{PROGRAMS[what]}"
    environment = {**os.environ, "PYTHONPATH": str(extended), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=extended, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("fine\n")


def test_without_the_listings_nothing_of_it_works() -> None:
    """The programs try what is not there already."""
    program = f"{START}\n{PROGRAMS['node types']}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "which has no discrete-time meaning" in done.stderr


def test_a_node_type_touches_as_many_files_as_the_page_says() -> None:
    page = PAGE.read_text()
    sections = {
        "layer": page.index("### A layer"),
        "neuron": page.index("### A neuron"),
        "": page.index("## Add a backend"),
    }
    files: dict[str, set[str]] = defaultdict(set)
    for kind, end in zip(("layer", "neuron"), list(sections.values())[1:], strict=True):
        files[kind] = set(re.findall(r"```python\n# ([\w/.]+)", page[sections[kind] : end]))
    assert len(files["layer"]) == 6
    assert len(files["neuron"]) == 4
    assert "a layer touches six files and a neuron four" in page
    table = dict(re.findall(r"^\| `([\w/.]+)`[^|]*\|[^|]*\| (.*) \|$", page, re.MULTILINE))
    marks = {file: [cell.strip() for cell in cells.split("|")] for file, cells in table.items() if "yes" in cells}
    assert {file for file, cells in marks.items() if cells[0]} == files["layer"]
    assert {file for file, cells in marks.items() if cells[-1]} == files["neuron"]

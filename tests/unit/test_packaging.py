"""The wheel holds one top-level package; adapters, hub and nir_graphs come inside it, with cards and files."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_wheel_ships_only_zoo(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"zoo"}
    for needed in (
        "zoo/py.typed",
        "zoo/adapters/jax.py",
        "zoo/hub/bundle.py",
        "zoo/nir_graphs/certificate.py",
        "zoo/cards/ems-yolo-digits/model.nir",
        "zoo/equivalence/conformance/nir_paper/lif_norse.nir",
    ):
        assert needed in names

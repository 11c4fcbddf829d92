"""Names of models are legal whatever the data set is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from zoo.cards.card import ModelName
from zoo.training.naming import data_name, default_name, legal_name

LEGAL = TypeAdapter(ModelName)


@pytest.mark.parametrize(
    ("data", "name"),
    [
        ("digits", "spikeyolo-pico-digits"),
        ("bccd_data", "spikeyolo-pico-bccd-data"),
        ("/sets/My Data (2)/", "spikeyolo-pico-my-data-2"),
        ("Données", "spikeyolo-pico-donnees"),
        ("数据", "spikeyolo-pico"),
        ("/", "spikeyolo-pico"),
        ("a" * 300, "spikeyolo-pico-" + "a" * 85),
        ("-COCO+", "spikeyolo-pico-coco"),
    ],
)
def test_derived_names(data: str, name: str) -> None:
    assert default_name("spikeyolo-pico", data) == name
    LEGAL.validate_python(name)


@given(st.text(max_size=200))
def test_every_text_gives_a_legal_name_or_none(text: str) -> None:
    name = legal_name(text)
    if name:
        LEGAL.validate_python(name)
        assert legal_name(name) == name


def test_names_of_here_and_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "blood cells"
    folder.mkdir()
    (folder / "data.yaml").touch()
    (folder / "pets.yaml").touch()
    monkeypatch.chdir(folder)
    assert data_name(".") == "blood cells"
    assert data_name("..") == tmp_path.name
    assert data_name("data.yaml") == "blood cells"
    assert data_name(str(folder / "data.yaml")) == "blood cells"
    assert data_name("pets.yaml") == "pets"

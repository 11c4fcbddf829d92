"""``import zoo`` is quick and brings no framework with it."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zoo

HEAVY = ("torch", "numpy", "snntorch", "norse", "nir", "h5py", "pydantic", "supervision", "huggingface_hub")
PROBE = """
import sys, time
started = time.process_time()
import zoo
seconds = time.process_time() - started
print(seconds)
print(*sorted(name for name in sys.modules if name.split(".")[0] in {heavy!r} or name.startswith(("zoo.adapters", "zoo.hub"))))
"""


def probe(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_import_is_quick_and_light() -> None:
    runs = [probe(PROBE.format(heavy=HEAVY)).split("\n") for _ in range(3)]
    assert [run[1] for run in runs] == ["", "", ""]
    assert min(float(run[0]) for run in runs) < 0.5  # of the processor, so that busy cores do not count


@pytest.mark.parametrize("module", ["zoo.errors", "zoo.config", "zoo.cards", "zoo.cli", "zoo.equivalence.report"])
def test_light_modules_import_no_framework(module: str) -> None:
    code = f"import sys, {module}; print(*(n for n in ('torch', 'snntorch', 'norse') if n in sys.modules))"
    assert probe(code).strip() == ""


def test_listing_models_imports_no_framework() -> None:
    assert probe("import sys, zoo; zoo.list_models(); print('torch' in sys.modules)").strip() == "False"


def test_every_public_name_exists_and_stays_callable() -> None:
    import zoo.equivalence.verification  # a submodule must not hide a function of the package

    assert zoo.equivalence.verification.__name__ == "zoo.equivalence.verification"
    assert set(zoo.__all__) <= set(dir(zoo))
    for name in zoo.__all__:
        value = getattr(zoo, name)
        assert callable(value) or name in {"errors", "__version__"}, name


def test_version_is_the_distributions() -> None:
    from importlib.metadata import version

    assert zoo.__version__ == version("nir-zoo")


def test_unknown_attribute() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        zoo.nonsense  # noqa: B018

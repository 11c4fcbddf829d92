"""A framework-agnostic zoo of spiking object detectors on NIR, the Neuromorphic Intermediate Representation.

    import zoo
    detector = zoo.load("spikeyolo-digits")                  # snnTorch
    result = detector.predict("picture.png")                 # supervision.Detections inside
    detector.export("spikeyolo.nir")                         # standard NIR, any tool reads it
    twin = zoo.load("spikeyolo-digits", backend="norse")     # rebuilt from the .nir file alone
    zoo.verify("spikeyolo-digits", backends=["norse"])       # spike-exact report

Importing this package is quick: it imports neither torch nor any framework. Functions load what they need when they are used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from zoo import errors

if TYPE_CHECKING:
    from zoo.api import (
        certify,
        create,
        export,
        import_nir,
        import_official,
        info,
        list_models,
        load,
        quantize,
        verify,
    )
    from zoo.cards import Card
    from zoo.detectors.detector import Detector
    from zoo.equivalence.report import Report
    from zoo.nir_graphs.certificate import Certificate, InputGrid
    from zoo.result import Result

    __version__: str

__all__ = [
    "Card",
    "Certificate",
    "Detector",
    "InputGrid",
    "Report",
    "Result",
    "__version__",
    "certify",
    "create",
    "errors",
    "export",
    "import_nir",
    "import_official",
    "info",
    "list_models",
    "load",
    "quantize",
    "verify",
]

_HOMES = {
    "Card": "zoo.cards",
    "Certificate": "zoo.nir_graphs.certificate",
    "Detector": "zoo.detectors.detector",
    "InputGrid": "zoo.nir_graphs.certificate",
    "Report": "zoo.equivalence.report",
    "Result": "zoo.result",
    "certify": "zoo.api",
    "create": "zoo.api",
    "export": "zoo.api",
    "import_nir": "zoo.api",
    "import_official": "zoo.api",
    "info": "zoo.api",
    "list_models": "zoo.api",
    "load": "zoo.api",
    "quantize": "zoo.api",
    "verify": "zoo.api",
}


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("nir-zoo")
    except PackageNotFoundError:  # run from a source tree that was never installed
        return "0+unknown"


def __getattr__(name: str) -> Any:
    if name == "__version__":
        value: Any = _version()
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))

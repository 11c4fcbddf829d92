"""The functions of the zoo. ``import zoo`` offers all of them; what they need is imported when they are called."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from zoo.cards import Card, index
from zoo.errors import InvalidInputError

if TYPE_CHECKING:
    import nir
    import torch
    from torch import Tensor

    from zoo.adapters.base import Runnable
    from zoo.data.images import ImageSource
    from zoo.detectors.base import DetectorBase
    from zoo.detectors.detector import Detector
    from zoo.detectors.graph import GraphDetector
    from zoo.equivalence.report import Report
    from zoo.nir_graphs.certificate import Certificate, InputGrid
    from zoo.nir_graphs.graph import Edge, FlatGraph

    DType = str | torch.dtype
    ImageSize = tuple[int, int] | int


@overload
def load(
    name_or_path: str | Path,
    *,
    backend: Literal["snntorch"] = "snntorch",
    revision: str | None = None,
    device: str = "cpu",
    dtype: DType | None = None,
    trainable: bool = False,
) -> Detector: ...


@overload
def load(
    name_or_path: str | Path,
    *,
    backend: str,
    revision: str | None = None,
    device: str = "cpu",
    dtype: DType | None = None,
    trainable: bool = False,
) -> Detector | GraphDetector: ...


def load(
    name_or_path: str | Path,
    *,
    backend: str = "snntorch",
    revision: str | None = None,
    device: str = "cpu",
    dtype: DType | None = None,
    trainable: bool = False,
) -> Detector | GraphDetector:
    """Load a trained detector.

    Args:
        name_or_path: a name of :func:`list_models`, a model folder, or ``hf-hub:organisation/name@revision``.
        backend: ``snntorch`` gives the detector as it was defined, an ordinary ``nn.Module``, from its weights. Every other
            backend (``reference``, ``norse``) rebuilds it from the ``.nir`` file alone.
        revision: branch, tag or commit of a model on the Hugging Face Hub.
        device: torch device.
        dtype: of weights and arithmetic; by default float32 (the reference always computes in float64).
        trainable: the form before batch norms were folded, for fine-tuning. It comes in eval mode: call ``.train()``.

    Raises:
        UnknownModelError: no such name; the message lists close ones. Or: its weights are not published; how to get them.
        HubError: the Hub does not have it, does not give it, or does not answer.
        FileMissingError, CorruptFileError, ConfigError, CheckpointError: the folder is incomplete, damaged or inconsistent.
        MissingFrameworkError: the backend's framework is not installed; the message names the extra.
        InvalidInputError: arguments that do not fit together.
    """
    from zoo.loading import load_graph, load_module, resolve

    source = resolve(name_or_path, revision=revision)
    if backend == "snntorch":
        return load_module(source, device=device, dtype=dtype, trainable=trainable)
    if trainable:
        raise InvalidInputError(f"trainable=True needs backend='snntorch', got backend={backend!r}")
    return load_graph(source, backend, device=device, dtype=dtype)


def list_models(pattern: str = "*", *, dataset: str | None = None, available: bool = False) -> list[str]:
    """Names that :func:`load` takes, in alphabetical order.

    Args:
        pattern: shell pattern, for example ``"spikeyolo*"``.
        dataset: only models trained on it, for example ``"coco"``.
        available: only models whose weights exist; the others say in :func:`info` how to get them.
    """
    return [
        name
        for name, entry in index().items()
        if fnmatch.fnmatchcase(name, pattern)
        and (dataset is None or entry.card.dataset.lower() == dataset.lower())
        and (entry.card.available or not available)
    ]


def info(name: str | Path) -> Card:
    """The card of a model: data, licence, metrics, where its weights come from.

    Args:
        name: a name of :func:`list_models`, a model folder, or ``hf-hub:organisation/name@revision``.

    Raises:
        UnknownModelError: no such name; the message lists close ones.
        HubError: the Hub does not have it, does not give it, or does not answer.
        FileMissingError, CorruptFileError, ConfigError: the folder has no card, or a damaged one.
    """
    from zoo.hub import bundle, sources

    entry = index().get(str(name))
    if entry is not None and not entry.has_weights and not Path(name).is_dir():
        return entry.card  # nothing is asked of the Hub
    source = sources.resolve(name)
    return bundle.read_card_of(source.directory)


def create(
    arch: str, *, num_classes: int, time_steps: int | None = None, levels: int | None = None, **variant: Any
) -> Detector:
    """A detector with random weights, in training form, for example ``zoo.create("spikeyolo-n", num_classes=80)``.

    Args:
        arch: name of an architecture; a wrong one lists the right ones.
        num_classes: number of classes.
        time_steps: T; by default 1.
        levels: D of integer neurons; by default 4.
        **variant: ``class_names``, ``image_size``, ``class_agnostic``, and arguments of the architecture.

    Raises:
        UnknownModelError: no such architecture.
        ConfigError: arguments that do not fit.
    """
    from zoo.detectors import building

    return building.create(arch, num_classes=num_classes, time_steps=time_steps, levels=levels, **variant)


def import_official(
    arch: str,
    checkpoint: str | Path | Mapping[str, Tensor],
    *,
    num_classes: int,
    time_steps: int | None,
    levels: int | None = None,
    **variant: Any,
) -> Detector:
    """Convert a checkpoint that the authors of an architecture published.

    Args:
        arch: for example ``spikeyolo-n``.
        checkpoint: path (pickles are read without executing code from them), or mapping of official key to tensor.
        num_classes: of the checkpoint.
        time_steps: T that it was trained with; None for an ANN.
        levels: D that it was trained with.
        **variant: further arguments of the architecture.

    Returns:
        The unfused official form, in the checkpoint's dtype.

    Raises:
        UnknownModelError: no such architecture, or none that has an importer.
        FileMissingError: no such file.
        CheckpointError: keys, shapes or types do not fit, or the file holds code where data should be.
    """
    from zoo.importers.official import import_official as convert

    return convert(arch, checkpoint, num_classes=num_classes, time_steps=time_steps, levels=levels, **variant)


def verify(
    name_path_or_detector: str | Path | Detector,
    backends: str | Sequence[str] = "all",
    *,
    images: Tensor | Sequence[ImageSource] | None = None,
    time_steps: int | None = None,
    dtype: DType = "float32",
    record: bool = False,
) -> Report:
    """Compare every spike of a detector between its snnTorch definition, the numpy reference and other backends.

    Args:
        name_path_or_detector: a name, a model folder, or a snnTorch detector (its deployed form is compared).
        backends: names, or ``all`` that are installed and can run the graph; the report says who cannot. The snnTorch
            module and the reference always take part.
        images: (B, C, H, W) in [0, 1], frames (T, B, C, H, W), or pictures; by default handwritten digits, noise and
            saturated images. Their size is the size that is compared.
        time_steps: T, if other than the detector's own.
        dtype: of the backends. A graph that is certified for it must give the same bits everywhere; else ``float64`` is judged
            (every spike identical and heads within 1e-9) and ``float32`` reported.
        record: keep every trace in ``report.traces``, by default of 4 images per group; they can be written as files with
            :mod:`zoo.equivalence.recording`.

    Raises:
        UnknownModelError, FileMissingError, CorruptFileError, CheckpointError: see :func:`load`.
        ExportError: the detector has no exact NIR form.
        UnsupportedGraphError: a backend cannot run it exactly.
        InvalidInputError: images or arguments do not fit.
    """
    from zoo.equivalence.verification import verify_detector
    from zoo.loading.options import dtype_of

    detector: Any = name_path_or_detector
    if isinstance(detector, str | Path):
        detector = load(detector)
    return verify_detector(
        detector, backends, images=images, time_steps=time_steps, dtype=dtype_of(dtype), record=record
    )


def export(
    detector_or_name: str | Path | DetectorBase,
    path: str | Path,
    *,
    image_size: ImageSize | None = None,
    single_output: bool = False,
    profile: str = "full",
) -> Path:
    """Write a detector's deployed form as a standard ``.nir`` file.

    Args:
        detector_or_name: a name, a model folder, or a snnTorch detector.
        path: of the file; it is written whole or not at all.
        image_size: (height, width) in pixels, or one number for both; by default the detector's own.
        single_output: one Output node for all scales, for tools that accept one only.
        profile: ``full`` is the smallest form; nir 1.0.8 infers wrong types of grouped and non-square convolutions, so other
            tools must read it with ``nir.read(path, type_check=False)``. ``stock`` is an equal graph that ``nir.read(path)``
            loads with its defaults: every convolution has one group and a square kernel.

    Returns:
        The path.

    Raises:
        ExportError: a module has no exact lowering, or a node no form in the profile; the message names it.
        InvalidInputError: an image size that the strides do not divide, an unknown profile, or a path that is a folder.
        InvalidGraphError: outputs that cannot be merged into one.
    """
    from zoo.detectors.detector import Detector
    from zoo.nir_graphs.passes.profiles import get_profile
    from zoo.support.files import check_file

    check_file(path)
    get_profile(profile)
    detector = load(detector_or_name) if isinstance(detector_or_name, str | Path) else detector_or_name
    if not isinstance(detector, Detector):
        raise InvalidInputError(
            f"only snnTorch detectors are exported, got {type(detector).__name__}: load it with backend='snntorch'"
        )
    return detector.export(path, image_size=image_size, single_output=single_output, profile=profile)


def certify(
    detector_name_or_graph: str | Path | DetectorBase | nir.NIRGraph | FlatGraph,
    *,
    dtype: str = "float32",
    time_steps: int | None = None,
    image_size: ImageSize | None = None,
    inputs: InputGrid | Mapping[str, InputGrid] | None = None,
    dt: float | None = None,
) -> Certificate:
    """Prove that a detector or graph gives the same bits on every backend, or say which nodes stand in the way.

    Args:
        detector_name_or_graph: a name, a model folder, a ``.nir`` file, a graph, or a snnTorch detector, which is exported
            with the weights that it has now.
        dtype: ``float32`` or ``float64``.
        time_steps: T, if other than the detector's own.
        image_size: (height, width) in pixels, or one number for both; by default the detector's own. The result does not
            depend on it, except for the shapes in the graph.
        inputs: what may be fed in, for all Input nodes or by name; by default images of 8 bits for detectors, and what a
            graph's metadata says.
        dt: length of a step in the graph's unit of time; by default what its metadata says. A graph that names neither times
            nor dt is analysed at dt = 1.

    Raises:
        UnknownModelError, FileMissingError, CorruptFileError, CheckpointError: see :func:`load`.
        ExportError: the detector has no exact NIR form.
        InvalidInputError: an unknown dtype, or inputs, T or dt that the graph needs and that nobody says.
    """
    import nir

    from zoo.detectors.detector import Detector
    from zoo.detectors.graph import GraphDetector
    from zoo.nir_graphs import certificate, importing
    from zoo.nir_graphs.graph import FlatGraph

    source: Any = detector_name_or_graph
    if isinstance(source, str | Path) and Path(source).suffix != ".nir":
        source = load(source)
    if isinstance(source, Detector):
        if source.encoder is not None and inputs is None:
            raise InvalidInputError(
                f"{source.config.arch} has a sampler in front of its graph, whose frames are real numbers: say what may be fed "
                "in (inputs=InputGrid(...)), or compare in float64 (zoo.verify)"
            )
        pixels = certificate.FLOAT_PIXELS if source.config.quantization is None else certificate.PIXELS
        source, inputs = source.to_nir(image_size), inputs or pixels
    elif isinstance(source, GraphDetector):
        source = source.runnable.graph
    if not isinstance(source, str | Path | nir.NIRGraph | FlatGraph):
        raise InvalidInputError(f"only detectors and graphs are certified, not {type(source).__name__}")
    graph = importing.prepare(source, dt=dt)
    return certificate.certify(graph, dtype=dtype, inputs=inputs, time_steps=time_steps)


def quantize(
    name_or_detector: str | Path | Detector,
    *,
    bits: int = 8,
    per: str = "layer",
    calibration: torch.Tensor | None = None,
) -> Detector:
    """Round a detector to power-of-two grids, so that it can be certified; see :func:`zoo.compression.quantization.quantize`.

    Args:
        name_or_detector: a name or model folder that holds trainable weights, or a snnTorch detector.
        bits: of a weight, 4..16.
        per: ``layer`` or ``channel``.
        calibration: images (B, C, H, W) in [0, 1].

    Raises:
        UnknownModelError, FileMissingError, CorruptFileError, CheckpointError: see :func:`load`.
        InvalidInputError: settings out of bounds, or a detector that cannot be quantised.
    """
    from zoo.compression.quantization import quantize as run

    detector: Any = name_or_detector
    if isinstance(detector, str | Path):
        detector = load(detector, trainable=True)
    return run(detector, bits=bits, per=per, calibration=calibration)  # type: ignore[arg-type]


def import_nir(
    path_or_graph: str | Path | nir.NIRGraph | FlatGraph,
    *,
    backend: str = "snntorch",
    dt: float | None = None,
    dtype: DType | None = None,
    delayed_edges: Iterable[Edge] = (),
    device: str = "cpu",
) -> Runnable:
    """Make any NIR graph runnable, not only the zoo's own.

    What has to be changed or assumed, for example a parameter that is broadcast, or where the step of a cycle without a Delay
    lies, is said: ``runnable.notes`` has all of it, and each kind gives one ``zoo.errors.GraphWarning``.

    Args:
        path_or_graph: a ``.nir`` file, or a graph.
        backend: the framework that runs it.
        dt: length of a step in the graph's own unit of time; by default what its metadata says. A graph with time constants
            or Delays and neither is refused; one without them runs at dt = 1.
        dtype: of weights and arithmetic; by default float32 (the reference always computes in float64).
        delayed_edges: (source, target) of edges that act one step later, for cycles without a Delay through several neurons.
        device: torch device.

    Returns:
        ``runnable(x)`` with x (T, B, ...) gives a dict of outputs (T, B, ...); ``runnable.run(x, record=[...])`` adds spikes
        and potentials per node. From snnTorch it is a trainable ``nn.Module``.

    Raises:
        FileMissingError, CorruptGraphError: no such file, or not a NIR graph.
        InvalidGraphError: the graph is malformed or ambiguous; the message says where.
        InvalidInputError: dt that the graph needs and nobody says, or arguments that do not fit.
        MissingFrameworkError: the backend's framework is not installed; the message names the extra.
        UnsupportedGraphError: the backend cannot run it exactly; the message names the nodes.
    """
    from zoo.adapters.base import get_backend
    from zoo.loading.options import check_device, dtype_of
    from zoo.nir_graphs import importing
    from zoo.nir_graphs.graph import FlatGraph

    builder = get_backend(backend)
    check_device(device)
    options: dict[str, Any] = {} if dtype is None else {"dtype": dtype_of(dtype)}
    graph = importing.prepare(path_or_graph, dt=dt, delayed_edges=delayed_edges)
    if not isinstance(path_or_graph, FlatGraph):  # else whoever normalised it has the notes
        importing.warn_of(graph.notes)
    return builder.build(graph, device=device, **options)


__all__ = [
    "certify",
    "create",
    "export",
    "import_nir",
    "import_official",
    "info",
    "list_models",
    "load",
    "quantize",
    "verify",
]

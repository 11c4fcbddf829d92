"""Every error that a user of the zoo can cause.

All of them derive from :class:`ZooError`, so ``except zoo.errors.ZooError`` catches exactly the mistakes that can be put
right outside this package. Each message says what was wrong and what to do. The CLI prints it and exits with 2.
"""

from __future__ import annotations

from collections.abc import Sequence


class ZooError(Exception):
    """Root of every error a user can cause."""


class DataWarning(UserWarning):
    """Files or entries of a data set were left out; the rest is used. The message counts them and names the first."""


class UnknownModelError(ZooError):
    """No architecture, card or path has this name."""


class InvalidInputError(ZooError):
    """An argument, image, event stream or tensor does not fit the model or the function."""


class FileMissingError(ZooError, FileNotFoundError):
    """A file that was asked for does not exist or cannot be read."""


class CorruptFileError(ZooError):
    """A file exists, but is damaged, hostile, or not of the format that it should have."""


class CorruptGraphError(CorruptFileError):
    """A ``.nir`` file is damaged, hostile, or not a NIR graph."""


class ConfigError(ZooError):
    """A model or training configuration is invalid."""


class CheckpointError(ZooError):
    """Weights do not fit the architecture: other keys, shapes, types, or code where data should be."""


class ExportError(ZooError):
    """A module has no exact lowering into standard NIR. The message names the module and the reason."""


class InvalidGraphError(ZooError):
    """A NIR graph breaks the discrete-time contract (shapes, cycles without Delay, missing nodes)."""


class GraphWarning(UserWarning):
    """Something in a NIR graph of others was changed or assumed when it was imported; ``runnable.notes`` has all of it."""


class UnsupportedGraphError(ZooError):
    """A backend cannot run a graph faithfully, and therefore refuses it.

    Attributes:
        backend: name of the backend.
        reasons: one sentence per node that stands in the way, each naming its node.
    """

    def __init__(self, backend: str, reasons: Sequence[str]) -> None:
        self.backend = backend
        self.reasons = list(reasons)
        listed = "\n".join(f"  - {reason}" for reason in self.reasons)
        super().__init__(f"backend {backend!r} cannot run this graph exactly, so it does not run it at all:\n{listed}")


class MissingFrameworkError(ZooError, ImportError):
    """An optional framework is not installed. The message names the extra that installs it."""


class DataError(ZooError):
    """A data set, annotation file or recording is missing or malformed."""


class TrainingError(ZooError):
    """Training cannot start, go on, or be resumed (for example a loss that is no longer finite)."""


class HubError(ZooError):
    """The Hugging Face Hub does not give or take something: no such repository, revision or file."""


class HubAccessError(HubError):
    """The Hub asks for a token, or for access that this token does not have."""


class HubConflictError(HubError):
    """Somebody else changed a repository, or a tag is in use: nothing was published."""


class HubUnreachableError(HubError, ConnectionError):
    """The Hub does not answer, or this process is offline, and what is needed is not in the cache."""

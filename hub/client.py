"""Where the Hub is, and what its errors mean.

The environment is read at each call, not when a module is imported: ``HF_ENDPOINT``, ``HF_HUB_CACHE`` or ``HF_HOME``,
``HF_HUB_OFFLINE``, ``HF_TOKEN``, as for every other tool of the Hub.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zoo.errors import HubAccessError, HubConflictError, HubError, HubUnreachableError, InvalidInputError, ZooError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OFFICIAL = "https://huggingface.co"
TIMEOUT = 10.0
"""Seconds until an answer about a repository must have begun."""


@dataclass(frozen=True)
class Client:
    """One Hub and one cache.

    Attributes:
        endpoint: address of the Hub.
        cache: folder that downloads are kept in, shared with every other tool of the Hub.
        offline: nothing is asked for.
    """

    endpoint: str
    cache: Path
    offline: bool

    def api(self) -> HfApi:
        """The client library, for this Hub. The token is the user's own: ``HF_TOKEN`` or ``hf auth login``."""
        from huggingface_hub import HfApi

        return HfApi(endpoint=self.endpoint, library_name="nir-zoo")


def from_environment() -> Client:
    """The Hub that the environment names now."""
    endpoint = os.environ.get("HF_ENDPOINT", "").rstrip("/") or OFFICIAL
    if endpoint != OFFICIAL:
        # Xet transfers need huggingface.co's own storage; the client decides when it is imported
        os.environ.setdefault("HF_HUB_DISABLE_XET", "1")
    home = Path(os.environ.get("HF_HOME", "~/.cache/huggingface")).expanduser()
    cache = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    offline = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    return Client(endpoint, Path(cache).expanduser() if cache else home / "hub", offline)


@contextmanager
def explained(what: str, client: Client) -> Iterator[None]:
    """Turn the client library's errors into the zoo's, each with what to do.

    Args:
        what: what was asked for, for example ``spikes/model@v1``.
        client: whom.

    Raises:
        HubAccessError, HubConflictError, HubUnreachableError, HubError, InvalidInputError: see there.
    """
    from huggingface_hub import errors

    transport: Any = next(
        cls for cls in errors.HfHubHTTPError.__mro__ if cls.__name__ == "HTTPError"
    )  # httpx or httpx2
    try:
        yield
    except (errors.HfHubHTTPError, errors.EntryNotFoundError, errors.HFValidationError) as error:
        raise _of_answer(what, client, error) from None
    except (transport, errors.OfflineModeIsEnabled, ConnectionError, TimeoutError) as error:
        if "xet-write-token" in str(error):
            raise HubError(
                f"{what}: {client.endpoint} has no Xet storage, and huggingface_hub was imported before that was known: set "
                "HF_HUB_DISABLE_XET=1 before Python starts"
            ) from None
        raise unreachable(what, client, str(error)) from None
    except RuntimeError as error:
        if not isinstance(error.__cause__, errors.HfHubHTTPError):
            raise
        raise _of_answer(what, client, error.__cause__) from None  # of the upload of one file
    except OSError as error:
        if "Consistency check failed" in str(error):  # fewer bytes than promised
            raise HubError(f"{what}: the download broke off; run the same again") from None
        raise HubError(f"{what}: {error}") from None
    except ValueError as error:
        if "Invalid filename" in str(error):
            raise HubError(f"{what}: the Hub names a file outside of the repository; nothing of it is used") from None
        raise


def _of_answer(what: str, client: Client, error: Exception) -> ZooError:
    """What the Hub said no to. The order matters: the client library's gated errors are also missing repositories."""
    from huggingface_hub import errors

    sign_in = "sign in with `hf auth login` or HF_TOKEN"
    sentences: list[tuple[type[Exception], type[ZooError], str]] = [
        (errors.HFValidationError, InvalidInputError, str(error)),
        (
            errors.GatedRepoError,
            HubAccessError,
            f"it is gated: ask for access on its page at {client.endpoint}, then {sign_in}",
        ),
        (
            errors.RepositoryNotFoundError,
            HubError,
            f"there is no such model on {client.endpoint}, or it is private: check the name; for a private one {sign_in}",
        ),
        (errors.RevisionNotFoundError, HubError, "the repository has no such branch, tag or commit"),
    ]
    for kind, ours, sentence in sentences:
        if isinstance(error, kind):
            return ours(f"{what}: {sentence}")
    if isinstance(error, errors.LocalEntryNotFoundError):
        return unreachable(what, client)
    if isinstance(error, errors.EntryNotFoundError):
        return HubError(f"{what}: the repository has no such file; is it a model of the zoo?")
    return _of_status(what, client, error)


def _of_status(what: str, client: Client, error: Any) -> HubError:
    status = getattr(error.response, "status_code", 0)
    if status in {401, 403}:
        return HubAccessError(
            f"{what}: {client.endpoint} refuses this token; sign in with one that may do this: `hf auth login` or HF_TOKEN"
        )
    if status in {409, 412}:
        return HubConflictError(f"{what}: somebody else changed the repository in the meantime; nothing was published")
    if status >= 500:
        return unreachable(what, client, f"status {status}")
    return HubError(f"{what}: {client.endpoint} answers {str(error).splitlines()[0]}")


def unreachable(what: str, client: Client, why: str = "") -> HubUnreachableError:
    """The error for a Hub that does not answer."""
    if client.offline:
        return HubUnreachableError(
            f"{what} is not in the cache {client.cache}, and HF_HUB_OFFLINE is set; run `zoo pull` while online"
        )
    reason = f" ({why.splitlines()[0]})" if why else ""
    return HubUnreachableError(f"{what}: {client.endpoint} does not answer{reason}; run the same again later")


@contextmanager
def quiet_bars() -> Iterator[None]:
    """The client library's progress bars, only where somebody watches."""
    from huggingface_hub.utils.tqdm import are_progress_bars_disabled, disable_progress_bars, enable_progress_bars

    if sys.stderr.isatty() or are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()

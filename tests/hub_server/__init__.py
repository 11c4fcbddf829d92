"""A small Hugging Face Hub on this machine, for tests: the real client talks to it over HTTP, and it can misbehave on request.

    from tests.hub_server import serve

    with serve() as hub:
        os.environ["HF_ENDPOINT"] = hub.url  # before huggingface_hub is imported; also HF_HUB_DISABLE_XET=1
        hub.fault("corrupt", path="model.safetensors")

or ``python -m tests.hub_server --port 8899``. Tokens: ``hf_owner`` writes for the user ``spikes``; ``hf_guest`` reads as
``guest``.
"""

from __future__ import annotations

from tests.hub_server.faults import KINDS, Fault
from tests.hub_server.server import HubServer, serve
from tests.hub_server.store import Store

__all__ = ["KINDS", "Fault", "HubServer", "Store", "serve"]

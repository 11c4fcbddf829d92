"""``python -m tests.hub_server``: a Hub to try things on, until it is interrupted."""

from __future__ import annotations

import argparse
import sys

from tests.hub_server.server import TOKENS, HubServer


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser(prog="python -m tests.hub_server", description=__doc__)
    parser.add_argument("--port", type=int, default=8899)
    server = HubServer(parser.parse_args().port)
    lines = [
        f"HF_ENDPOINT={server.url} HF_HUB_DISABLE_XET=1",
        *(f"token {one} is {user}" for one, user in TOKENS.items()),
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    sys.stdout.flush()
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        server.server_close()


if __name__ == "__main__":
    main()

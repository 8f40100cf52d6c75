"""The program; see the package."""

import argparse
import asyncio
import json
import logging
import os
import sys
from dataclasses import asdict

from tests.transport import fuzz
from tests.transport.fuzz.clients import attack
from tests.transport.fuzz.operator import LIMITS, SCHEMES
from tests.transport.fuzz.runs import attack_from_outside, fuzz_client, fuzz_server
from tests.transport.fuzz.servers import hostile_server, obey


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.transport.fuzz", description=fuzz.__doc__
    )
    parser.add_argument("--scheme", choices=SCHEMES, default="ws")
    parser.add_argument("--side", choices=("server", "client"), default="server")
    parser.add_argument("--frames", type=int, default=100_000, help="to be sent, about")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--uvloop", action="store_true", help="on uvloop, as the programs run")
    parser.add_argument("--attack", metavar="URL", help="only the hostile clients, to this server")
    parser.add_argument("--serve", metavar="SCHEME", help="only the hostile servers, as stdin says")
    return parser.parse_args()


async def _run(given: argparse.Namespace) -> int:
    if given.serve:
        await obey(hostile_server(given.serve, LIMITS, str(given.seed)))
        return 0
    if given.attack:
        damage = await attack(given.attack, given.frames, given.seed, LIMITS)
        print(json.dumps(asdict(damage)))  # noqa: T201
        return 0
    if given.side == "client":
        distant = given.scheme != "memory"
        figures = await fuzz_client(given.scheme, given.frames, given.seed, distant=distant)
    elif given.scheme == "memory":
        figures = await fuzz_server(given.scheme, given.frames, given.seed)
    else:
        figures = await fuzz_server(given.scheme, given.frames, given.seed, attack_from_outside)
    for note in [*figures.notes, *figures.damage.notes[:10]]:
        print(f"  {note}", file=sys.stderr)  # noqa: T201
    print(figures)  # noqa: T201
    for what in figures.broken:
        print(f"  NOT HELD: {what}")  # noqa: T201
    return 1 if figures.broken else 0


def main() -> int:
    """Run the program; returns its exit code: 0 if everything held."""
    given = _arguments()
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    # What hostile peers bring about in the logs is counted, and not shown.
    logging.getLogger().addHandler(logging.NullHandler())
    if given.uvloop:
        import uvloop

        return uvloop.run(_run(given))
    return asyncio.run(_run(given))


if __name__ == "__main__":
    sys.exit(main())

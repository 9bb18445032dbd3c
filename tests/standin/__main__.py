"""Run the stand-in as a process: `python -m standin FOLDER --port N`; it ends with its standard input or SIGTERM."""

import argparse
import signal
import ssl
import sys
from pathlib import Path

from standin.server import StandIn


def main() -> None:
    parser = argparse.ArgumentParser(prog="standin", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--version", default="1.18.3")
    parser.add_argument("--api-key")
    parser.add_argument("--read-only-key")
    parser.add_argument("--collection-key", action="append", default=[], metavar="KEY=COLLECTION,...")
    parser.add_argument("--premade", action="append", default=[], metavar="COLLECTION=PATH")
    parser.add_argument("--tls", type=Path, metavar="PEM", help="certificate and key")
    asked = parser.parse_args()
    tls = None
    if asked.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(asked.tls)
    limited = {key: names.split(",") for key, _, names in (one.partition("=") for one in asked.collection_key)}
    premade = {name: Path(path) for name, _, path in (one.rpartition("=") for one in asked.premade)}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with StandIn(
        asked.folder,
        port=asked.port,
        version=asked.version,
        api_key=asked.api_key,
        read_only_key=asked.read_only_key,
        collection_keys=limited,
        tls=tls,
        premade=premade,
    ) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

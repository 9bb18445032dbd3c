"""What `snapward restore` does with one archive that the agent has proved before: hash it, then inflate and upload it.

Arguments: the server's URL, the archive, its SHA-256, and the size and SHA-256 of what is in it.
"""

import sys
import time

from agent.adapters.qdrant import upload
from agent.adapters.qdrant.address import Address
from agent.adapters.qdrant.server import Server
from agent.adapters.qdrant.wire import Wire
from agent.adapters.shelf import read
from agent.adapters.shelf.inflate import Inflated

url, path, digest, size, inside = sys.argv[1:]
reading, signature = read.read(path, None, stream=False, keep=True)
if reading.sha256 != digest:
    sys.exit(f"{path} has SHA-256 {reading.sha256}")
with Inflated(path, signature, int(size), inside) as source:
    server = Server(Wire(Address(url)))
    until = time.monotonic() + 600
    sys.exit(upload.upload(server, "c", upload.new_name(), int(size), inside, source, until) or 0)

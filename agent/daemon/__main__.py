"""The lean process behind `snapward run`, which has checked the configuration: FILE [--verbose]."""

import os
import sys

from agent.daemon.run import run
from agent.errors import AgentError

try:
    sys.exit(run(sys.argv[1], os.environ, verbose="--verbose" in sys.argv))
except AgentError as error:
    sys.stderr.write(f"snapward: {error.message}\n  {error.hint}\n")
    sys.exit(error.exit_code)

"""Survey one location against a ledger: STATE_DIR ROOT FILES.

Prints the seconds the survey took, and the seconds of processor this process took in all.
"""

import sys
import time

from agent.adapters import ledger
from agent.adapters.shelf import look
from agent.jobs.intake.survey import Place, survey

state_dir, root, files = sys.argv[1:]
names = look.pattern(("*.snapshot", "*.snapshot.gz", "*.tar.gz", "*.tgz"))
db = ledger.connect_reader(state_dir)
began = time.perf_counter()
found = survey(db, Place("primary", root), names)
seconds = time.perf_counter() - began
if found.root.trouble or found.changed or found.gone or found.files != int(files):
    sys.exit(f"the survey found something else than {files} known files: {found.root}")
print(seconds, time.process_time())

"""A process is made ready for tasks by itself."""

from __future__ import annotations

import subprocess
import sys

PREPARE = """
import sys
started = []
sys.addaudithook(lambda event, told: started.append(told) if event == "subprocess.Popen" else None)
from pipelines.tasks.process import prepare_process
prepare_process()
import platform
assert platform.processor() == platform.machine() != ""
print(len(started))
"""


def test_no_process_is_started_that_counts_as_much_memory_as_its_parent():
    done = subprocess.run([sys.executable, "-c", PREPARE], capture_output=True, text=True, check=True)
    assert done.stdout == "0\n"

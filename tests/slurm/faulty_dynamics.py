"""Takes the place of scripts/dynamics.py in a campaign of the fault tests: the real program, slowed down or disturbed.

faults.json names, by candidate: sleep_s (after each step, so that there is time to break things without loading the machine),
hog_MB (memory taken on top), fail (message of an error at step 300 of production), gpu_full (attempts that end there as out of
GPU memory).
"""

import json
import runpy
import sys
import time
from pathlib import Path

REAL = Path(json.loads(Path("faults.json").read_text())["scripts"]) / "dynamics.py"
name = sys.argv[sys.argv.index("--members") + 1].partition(":")[0]
fault = json.loads(Path("faults.json").read_text()).get(name, {})
sys.path.insert(0, str(REAL.parent))


def disturb() -> None:
    import torch
    from ionraman.attempts import read_attempts
    from ionraman.dynamics import Engine

    after_step, taken = Engine._after_step, []

    def disturbed(engine):
        after_step(engine)
        time.sleep(fault.get("sleep_s", 0))
        if engine.progress.stage != "production":
            return
        if "hog_MB" in fault and not taken:
            taken.append(bytearray(b"x") * (fault["hog_MB"] << 20))
        if engine.progress.step >= 300 and "fail" in fault:
            raise ValueError(fault["fail"])
        if engine.progress.step >= 300 and len(read_attempts(engine.folder)) <= fault.get("gpu_full", 0):
            raise torch.OutOfMemoryError("CUDA out of memory (simulated).")

    Engine._after_step = disturbed


if fault:
    disturb()
runpy.run_path(str(REAL), run_name="__main__")

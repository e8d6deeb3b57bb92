"""Takes the place of scripts/dynamics.py in a campaign of the fault tests: the real program, held or disturbed.

The job of a candidate waits at step 150 of production, saved, while the file hold-NAME is there, so that there is time to break
things; held-NAME then has the number of the job. faults.json names, by candidate: hog_MB (memory taken on top), fail (message of an error at step 300), gpu_full (attempts that end there as
out of GPU memory).
"""

import json
import os
import runpy
import sys
import time
from pathlib import Path

REAL = Path(json.loads(Path("faults.json").read_text())["scripts"]) / "dynamics.py"
name = sys.argv[sys.argv.index("--members") + 1].partition(":")[0]
fault = json.loads(Path("faults.json").read_text())["by"].get(name)
sys.path.insert(0, str(REAL.parent))


def disturb() -> None:
    import torch
    from ionraman.attempts import read_attempts
    from ionraman.dynamics import Engine

    after_step, taken = Engine._after_step, []

    def disturbed(engine):
        after_step(engine)
        if engine.progress.stage != "production":
            return
        while engine.progress.step >= 150 and Path(f"hold-{name}").exists() and not engine.should_stop():
            Path(f"held-{name}").write_text(os.environ["SLURM_JOB_ID"])
            time.sleep(0.1)
        if "hog_MB" in fault and not taken:
            taken.append(bytearray(b"x") * (fault["hog_MB"] << 20))
        if engine.progress.step >= 300 and "fail" in fault:
            raise ValueError(fault["fail"])
        if engine.progress.step >= 300 and len(read_attempts(engine.folder)) <= fault.get("gpu_full", 0):
            raise torch.OutOfMemoryError("CUDA out of memory (simulated).")

    Engine._after_step = disturbed


if fault is not None:
    disturb()
runpy.run_path(str(REAL), run_name="__main__")

"""kill -9 in the middle of production: a second launch resumes and the trajectory is the uninterrupted one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from ionraman.trajectory import trajectory_store

from .conftest import Campaign


def test_kill_9_in_production_loses_nothing_but_time(tmp_path, root):
    trajectories, kept, resumed = [], 0, None
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
        campaign = Campaign(tmp_path / name, root)
        campaign.config["dynamics"] |= {"production_ps": 1.5, "checkpoint_ps": 0.2, "replicas": 2}
        campaign.add("salt", "structures/NaCl.cif")
        target = "results/tiny/packs/0001.dynamics.json"
        if name == "killed":
            environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
            process = subprocess.Popen(
                campaign.command(target), cwd=campaign.folder, env=environment, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            store = trajectory_store(campaign.results / "runs/salt/800K")
            deadline = time.monotonic() + 300
            while store.frames() < 60 and time.monotonic() < deadline:
                time.sleep(0.05)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            kept = store.frames()
            assert 60 <= kept < 150
            assert campaign.run("--unlock").returncode == 0
        done = campaign.run(target)
        assert done.returncode == 0, done.stdout + done.stderr
        trajectories.append(trajectory_store(campaign.results / "runs/salt/800K").read()[0]["positions_A"])
        resumed = json.loads((campaign.results / "packs/0001/progress.json").read_text())["resumed_from"]
    # A checkpoint is written after its segment: a kill between the two costs the one segment of 20 frames.
    assert resumed >= 0.3 / 0.002 + (kept - 20) * 5
    assert trajectories[0].shape == (2, 150, 8, 3)
    assert np.array_equal(*trajectories)

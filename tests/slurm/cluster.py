"""A real SLURM on this machine: one controller, several slurmd, no accounting; up in a second, gone afterwards.

Needs root (SLURM's files in /etc/slurm, cgroups) and Debian's packages, see `PACKAGES`. The configuration lies in /etc/slurm,
because Snakemake's job step drops SLURM_CONF.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

PACKAGES = "slurmctld slurmd slurm-client slurm-wlm-basic-plugins"
ETC = Path("/etc/slurm")
MARK = "# written by tests/slurm\n"

# cpu: analysis; gpu: GPU jobs; doomed: a node that is killed; low, high: the second takes the node from the first.
NODES = {"cpu1": 0, "cpu2": 0, "gpu1": 5, "gpu2": 5, "doomed1": 1, "doomed2": 1, "shared1": 1}
CONF = """{mark}ClusterName=tests
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort=16817
AuthType=auth/none
CredType=cred/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation={state}/ctld
SlurmdSpoolDir={state}/%n
SlurmctldPidFile={state}/slurmctld.pid
SlurmdPidFile={state}/%n.pid
SlurmctldLogFile={state}/slurmctld.log
SlurmdLogFile={state}/%n.log
ProctrackType={proctrack}
TaskPlugin={task}
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
JobAcctGatherParams={gather}
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SchedulerParameters=sched_interval=2,batch_sched_delay=0,bf_interval=2
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
InactiveLimit=0
KillWait=20
MinJobAge=7200
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=cpu Nodes=cpu1,cpu2 Default=YES MaxTime=60
PartitionName=gpu Nodes=gpu1,gpu2 MaxTime=60
PartitionName=doomed Nodes=doomed1,doomed2 MaxTime=60
PartitionName=low Nodes=shared1 MaxTime=60 PriorityTier=1 PreemptMode=REQUEUE
PartitionName=high Nodes=shared1 MaxTime=60 PriorityTier=10 PreemptMode=OFF
"""


def missing() -> str:
    """What keeps the cluster from being brought up, with what to do; '' if nothing does."""
    if os.geteuid() != 0:
        return "SLURM's tests need root: they write /etc/slurm and start slurmctld and slurmd."
    absent = [
        name
        for name in ("slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
        if not shutil.which(name)
    ]
    if absent:
        return f"{', '.join(absent)} not found: apt-get install --no-install-recommends {PACKAGES} (or .ci/run, which does)."
    config = ETC / "slurm.conf"
    if config.exists() and not config.read_text().startswith(MARK):
        return f"{config} belongs to another SLURM: the tests would replace it. Run them where there is none."
    return ""


class Cluster:
    """The cluster; `up` and `down` wait until it is."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.cgroups = Path("/sys/fs/cgroup/memory/tasks").exists()
        """Whether the kernel kills jobs for memory (cgroup v1); else SLURM does, by polling."""

    def up(self) -> None:
        if (ETC / "slurm.conf").exists():  # ours, see `missing`: of a session that was killed
            left = re.search(r"^StateSaveLocation=(.+)/ctld$", (ETC / "slurm.conf").read_text(), re.MULTILINE)
            Cluster(Path(left.group(1))).down()
        for name in ("ctld", *NODES):
            (self.state / name).mkdir(parents=True)
        ETC.mkdir(exist_ok=True)
        nodes = [
            f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={17001 + number} CPUs=8 RealMemory=60000"
            + (f" Gres=gpu:h100:{gpus}" if gpus else "")
            for number, (name, gpus) in enumerate(NODES.items())
        ]
        text = CONF.format(
            mark=MARK,
            state=self.state,
            nodes="\n".join(nodes),
            proctrack="proctrack/cgroup" if self.cgroups else "proctrack/linuxproc",
            task="task/cgroup" if self.cgroups else "task/none",
            gather="NoOverMemoryKill" if self.cgroups else "OverMemoryKill",
        )
        (ETC / "slurm.conf").write_text(text)
        devices = [self.state / f"device{number}" for number in range(max(NODES.values()))]
        for number, device in enumerate(devices):  # any device file stands for a GPU
            subprocess.run(["mknod", device, "c", "1", str(3 if number == 0 else 5 + 2 * number)], check=True)
        gres = [
            f"NodeName={name} Name=gpu Type=h100 File={device}"
            for name, gpus in NODES.items()
            for device in devices[:gpus]
        ]
        (ETC / "gres.conf").write_text(MARK + "\n".join(gres) + "\n")
        (ETC / "cgroup.conf").write_text(
            MARK + "CgroupPlugin=cgroup/v1\nConstrainRAMSpace=yes\n" if self.cgroups else MARK
        )
        subprocess.run(["slurmctld", "-i"], check=True)
        self._wait(lambda: " UP" in self._out("scontrol", "ping"), "slurmctld answers")
        for name in NODES:
            self.start(name)
        self._wait(
            lambda: self._out("sinfo", "-h", "-N", "-o", "%T").split() == ["idle"] * self._lines(),
            "nodes are idle",
        )

    def down(self) -> None:
        subprocess.run(["scancel", "-u", "root"], check=False)
        for pidfile in (*self.state.glob("*.pid"),):
            try:
                os.kill(int(pidfile.read_text()), signal.SIGTERM)
            except (ProcessLookupError, ValueError, FileNotFoundError):
                pass
        self._wait(lambda: not self._daemons(), "daemons end", fail=False)
        for pid in self._daemons():
            os.kill(pid, signal.SIGKILL)
        for name in ("slurm.conf", "gres.conf", "cgroup.conf"):
            (ETC / name).unlink(missing_ok=True)
        for group in Path("/sys/fs/cgroup").glob("*/slurm_*"):
            if group.name.removeprefix("slurm_") in NODES:
                for folder in sorted([group, *group.rglob("*/")], key=lambda path: -len(path.parts)):
                    folder.rmdir()

    def start(self, name: str) -> None:
        subprocess.run(["slurmd", "-N", name], check=True)

    def kill_node(self, name: str) -> None:
        """Node failure: slurmd, its steps and all their processes are gone at once."""
        pids = [
            pid
            for pid, line in _commands()
            if line.startswith(("slurmd -N " + name, "/usr/sbin/slurmd -N " + name))
        ]
        jobs = self._out("squeue", "-h", "-w", name, "-t", "R", "-o", "%A").split()
        for job in jobs:
            pids += [pid for pid, line in _commands() if line.startswith(f"slurmstepd: [{job}.")]
            pids += processes_of(job)
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def jobs(self) -> list[tuple[str, str, str, str]]:
        """(number, name, state, comment) of every job that the controller knows."""
        lines = self._out("squeue", "-h", "-t", "all", "-o", "%A|%j|%T|%k").splitlines()
        return [tuple(line.split("|", 3)) for line in lines]

    def nodes_of(self, job: str) -> list[str]:
        return self._out("squeue", "-h", "-t", "all", "-j", job, "-o", "%N").split()

    def folder_of(self, job: str) -> str:
        """Working directory of a job."""
        return re.search(r"^ +WorkDir=(.*)$", self._out("scontrol", "show", "job", job), re.MULTILINE).group(1)

    def limit(self, job: str) -> None:
        """Make the time limit of a job one minute, which it has used up."""
        subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=1"], check=True)

    def state_of(self, job: str) -> str:
        return next((state for number, _, state, _ in self.jobs() if number == job), "")

    def memory_mb(self, job: str) -> int:
        """Memory that a job asked for."""
        return int(re.search(r"MinMemoryNode=(\d+)M", self._out("scontrol", "show", "job", job)).group(1))

    def logs(self) -> str:
        return "\n".join(
            f"== {path}\n{path.read_text(errors='replace')[-3000:]}" for path in self.state.glob("*.log")
        )

    def _lines(self) -> int:
        return len(self._out("sinfo", "-h", "-N", "-o", "%n").split())

    def _daemons(self) -> list[int]:
        return [
            pid
            for pid, line in _commands()
            if line.split(" ")[0].rsplit("/")[-1] in ("slurmctld", "slurmd", "slurmstepd:")
        ]

    def _out(self, *command: str) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=False).stdout

    def _wait(self, condition, what: str, limit_s: float = 60, fail: bool = True) -> None:
        deadline = time.monotonic() + limit_s
        while not condition():
            if time.monotonic() > deadline:
                if fail:
                    raise TimeoutError(f"SLURM: waited {limit_s} s until {what}.\n{self.logs()}")
                return
            time.sleep(0.2)


def _commands() -> list[tuple[int, str]]:
    """(pid, command line) of every process."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            found.append(
                (int(folder.name), (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip())
            )
        except OSError:
            continue
    return found


def processes_of(job: str, containing: str = "") -> list[int]:
    """Processes of a SLURM job, by their environment; only those whose command line contains a text."""
    found = []
    for pid, line in _commands():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            continue
        if f"SLURM_JOB_ID={job}\0".encode() in environment and containing in line:
            found.append(pid)
    return found

"""Measure the device that a job gets: driver, GPU, shared folder, and real steps of the campaign's models per second."""

import argparse
import os
import platform
import socket
import subprocess
import time
from pathlib import Path

from arguments import limit_threads, read_json, settings, write_json

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("request", type=Path)
parser.add_argument("output", type=Path)
parser.add_argument("--force", required=True)
parser.add_argument("--force-sha256", required=True)
parser.add_argument("--alpha", required=True)
parser.add_argument("--alpha-sha256", required=True)
parser.add_argument("--compute", nargs="+", required=True)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])
if not arguments.request.exists():
    raise SystemExit(
        f"{socket.gethostname()} does not see {arguments.request.resolve()}: the folder of the project is not shared with it."
    )
request = read_json(arguments.request)


def timed(program, seconds: float) -> float:
    """Seconds of one call, after five to warm up (compilation), over at least three calls and `seconds`."""
    import torch

    def settle():
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    for _ in range(5):
        program()
    settle()
    start, calls = time.perf_counter(), 0
    while calls < 3 or time.perf_counter() - start < seconds:
        program()
        settle()
        calls += 1
    return (time.perf_counter() - start) / calls


def main() -> None:
    import numpy as np
    import torch
    import torch_sim as ts
    from ase import Atoms
    from ionraman import polarizability, potentials
    from ionraman.dynamics import BULK_MODULUS_EV_A3, FS
    from ionraman.estimate import architecture
    from ionraman.inference import BATCH_ATOMS
    from ionraman.units import KB_EV
    from torch_sim.integrators.npt import npt_crescale_anisotropic_step, npt_crescale_init
    from torch_sim.integrators.nve import nve_init, nve_step

    torch.set_num_threads(compute["threads"])
    device = potentials.select_device(compute["device"])
    dtype = getattr(torch, compute["dtype"])
    potential = potentials.load(arguments.force, arguments.force_sha256)
    model = polarizability.load(arguments.alpha, device, arguments.alpha_sha256)
    atoms = Atoms(request["numbers"], request["positions_A"], cell=request["cell_A"], pbc=True)
    kT, replicas, pack = KB_EV * request["temperature_K"], request["replicas"], request["pack_size"]
    share = request["seconds"] / 6

    def batch(count: int):
        state = ts.initialize_state([atoms] * count, device, dtype)
        state.rng = 1
        return state

    speeds = {"nve": [], "npt": [], "alpha": []}
    plain = potential.torchsim(device, dtype, stress=False)
    for count in sorted({1, replicas, replicas * pack}):
        state = nve_init(batch(count), plain, kT=torch.tensor(kT))
        speeds["nve"].append((count * len(atoms), timed(lambda s=state: nve_step(s, plain, dt=FS), share)))
    stressed = potential.torchsim(device, dtype, stress=True)
    for count in sorted({1, pack}):
        state = npt_crescale_init(
            batch(count), stressed, kT=torch.tensor(kT), dt=torch.tensor(FS), tau_p=torch.tensor(1000 * FS),
            isothermal_compressibility=torch.tensor(1 / BULK_MODULUS_EV_A3),
        )  # fmt: skip

        def step(state=state):
            npt_crescale_anisotropic_step(
                state, stressed, dt=FS, kT=torch.tensor(kT), external_pressure=0.0, tau=200 * FS
            )

        speeds["npt"].append((count * len(atoms), timed(step, share)))
    if set(atoms.get_chemical_symbols()) <= set(model.elements):
        frames = max(1, BATCH_ATOMS[device.type] // len(atoms))
        positions = np.array([atoms.positions] * frames)
        cell, symbols = atoms.cell.array, atoms.get_chemical_symbols()
        evaluate = timed(
            lambda: model.predict_trajectory(positions, cell, symbols, frames * len(atoms)), share
        )
        speeds["alpha"].append((frames * len(atoms), evaluate))
    write_json(
        arguments.output,
        {
            "token": request["token"], "when": time.strftime("%Y-%m-%d %H:%M"), "host": socket.gethostname(),
            "device": device.type, "hardware": hardware(device), "driver": driver(), "torch": torch.__version__,
            "cuda_build": torch.version.cuda or "none", "threads": compute["threads"],
            "force_model": architecture(Path(arguments.force)), "force_model_sha256": potential.sha256, "alpha_model_sha256": model.sha256,
            "candidate": request["candidate"], "write_MB_s": write_speed(arguments.output.parent),
            "speeds": {stage: rows for stage, rows in speeds.items() if rows},
        },
    )  # fmt: skip


def hardware(device) -> str:
    import torch

    if device.type == "cuda":
        found = torch.cuda.get_device_properties(device)
        return f"{found.name}, {found.total_memory / 2**30:.0f} GiB"
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{names[0] if names else platform.machine()}, {compute['threads']} threads of {os.cpu_count()} CPUs"
    )


def driver() -> str:
    try:
        command = ["nvidia-smi", "--query-gpu=driver_version,name", "--format=csv,noheader"]
        found = subprocess.run(command, capture_output=True, text=True, timeout=30)
        return found.stdout.strip().replace("\n", "; ") or "nvidia-smi sees no GPU"
    except (OSError, subprocess.TimeoutExpired):
        return "no NVIDIA driver"


def write_speed(folder: Path) -> float:
    """MB/s of writing 16 MB to the results, flushed."""
    file, start = folder / ".probe.bin", time.perf_counter()
    with open(file, "wb") as stream:
        stream.write(os.urandom(16_000_000))
        stream.flush()
        os.fsync(stream.fileno())
    seconds = time.perf_counter() - start
    file.unlink()
    return 16 / seconds


main()

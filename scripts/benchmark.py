"""Speed, side by side with the alternative, in one run: dynamics against ASE, polarizability against a calculator, analysis;
and `scale`, the time and memory that planning many candidates takes.

Figures are ratios of medians over repeats that alternate between the two. Run it on an idle machine.
"""

import argparse
import os
import re
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from arguments import limit_threads

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("what", nargs="*", default=["dynamics", "polarizability", "analysis"])
parser.add_argument("--device", default="cpu")
parser.add_argument("--repeats", type=int, default=5)
parser.add_argument("--systems", type=int, nargs="+", help="sizes of the batches of dynamics")
parser.add_argument("--model", default="workflow/models/force-small", help="force field of dynamics")
parser.add_argument("--frames", type=int, default=100_000, help="of the analysis, over 4 replicas")
parser.add_argument("--candidates", type=int, nargs="+", default=[10, 100, 1000], help="of scale")
parser.add_argument("--launch", action="store_true", help="of scale: also carry jobs through that do nothing")
parser.add_argument("--atoms", type=int, default=128, help="of the analysis")
parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
arguments = parser.parse_args()
limit_threads(1)

ROOT = Path(__file__).resolve().parent.parent


def cell():
    """The 63-atom cell of Na3SbS4_W, rattled."""
    from ionraman.structures import build

    recipe = "Sb->W 0.125; Na-vacancy 0.125"
    file = ROOT / "config/structures/Na3SbS4_cub.cif"
    atoms = build(file, mobile="Na", carriers=recipe, min_image_A=11, max_atoms=64, seed=1).atoms
    atoms.rattle(0.05, seed=1)
    return atoms


def settle() -> None:
    """Wait for the GPU."""
    import torch

    if arguments.device != "cpu":
        torch.cuda.synchronize()


def medians(programs: dict, repeats: int) -> dict[str, float]:
    """Median seconds of each program, run in turn."""
    times = {name: [] for name in programs}
    for _ in range(repeats + 1):
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            settle()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def dynamics() -> None:
    import torch
    import torch_sim as ts
    from ase import units
    from ase.md.velocitydistribution import MaxwellBoltzmannDistribution
    from ase.md.verlet import VelocityVerlet
    from ionraman import potentials
    from ionraman.dynamics import FS
    from ionraman.units import KB_EV
    from torch_sim.integrators.nve import nve_init, nve_step

    torch.set_num_threads(1)
    device = potentials.select_device(arguments.device)
    potential = potentials.load(ROOT / arguments.model)
    steps, atoms = 20, cell()
    for count in arguments.systems or ((1, 4, 8) if arguments.device == "cpu" else (1, 8, 64, 256)):
        model = potential.torchsim(device, torch.float32, stress=False)
        state = ts.initialize_state([atoms] * count, device, torch.float32)
        state.rng = 1
        state = nve_init(state, model, kT=torch.tensor(KB_EV * 800, device=device))
        inside, forward = [0.0], model.model.forward

        def timed(*args, forward=forward, inside=inside, **kwargs):
            settle()
            start = time.perf_counter()
            try:
                return forward(*args, **kwargs)
            finally:
                settle()
                inside[0] += time.perf_counter() - start

        def ours(state=state, model=model):
            for _ in range(steps):
                nve_step(state, model, dt=2 * FS)

        runs = []
        for seed in range(min(count, 4)):
            own = atoms.copy()
            own.calc = potential.calculator(arguments.device, "float32")
            MaxwellBoltzmannDistribution(
                own, temperature_K=800, rng=__import__("numpy").random.default_rng(seed)
            )
            runs.append(VelocityVerlet(own, 2 * units.fs))

        def ase(runs=runs):
            for run in runs:
                run.run(steps)

        found = medians({"ours": ours, "ase": ase}, arguments.repeats)
        model.model.forward = timed
        start = time.perf_counter()
        ours()
        settle()
        whole = time.perf_counter() - start
        # ASE takes one system after the other: four are measured for more.
        found["ase"] *= count / len(runs)
        per_step = {name: seconds / steps / count * 1e3 for name, seconds in found.items()}
        print(
            f"dynamics, {count} x {len(atoms)} atoms: {per_step['ours']:.3g} ms per step and system, ASE {per_step['ase']:.1f} ms: "
            f"{found['ase'] / found['ours']:.2f} times as fast as ASE; outside the model {1 - inside[0] / whole:.1%} "
            "(neighbour list and integrator)"
        )


def polarizability() -> None:
    import numpy as np
    import torch
    from ionraman import polarizability, potentials

    torch.set_num_threads(1)
    model = polarizability.load(
        ROOT / "workflow/models/alpha-small", potentials.select_device(arguments.device)
    )
    atoms, frames = cell(), 32 if arguments.device == "cpu" else 1024
    rng = np.random.default_rng(0)
    positions = atoms.positions + rng.normal(0, 0.05, (frames, len(atoms), 3))
    symbols = atoms.get_chemical_symbols()

    def one_by_one():
        for frame in positions[:32]:
            model.predict_trajectory(frame[None], atoms.cell.array, symbols)

    batches = {
        f"batch of {size} atoms": lambda size=size: model.predict_trajectory(
            positions, atoms.cell.array, symbols, size
        )
        for size in ((64, 128, 256, 512, 1024, 2048) if arguments.device == "cpu" else (64, 1024, 4096, 16384, 65536))
    }
    found = medians(batches | {"frame by frame": one_by_one}, arguments.repeats)
    found["frame by frame"] *= frames / 32
    for name, seconds in found.items():
        parts = " and ".join(["physical models"] * (model.physical is not None) + ["networks"] * bool(model.networks))
        print(
            f"polarizability, {model.size} members ({parts}), {name}: {seconds / frames * 1e3:.3g} ms per frame, "
            f"{found['frame by frame'] / seconds:.2f} times as fast as frame by frame"
        )


def analysis() -> None:
    """In a process of its own, so that its peak memory is that of the analysis."""
    if not arguments.inside:
        options = [f"--frames={arguments.frames}", f"--atoms={arguments.atoms}", "--inside"]
        subprocess.run([sys.executable, __file__, "analysis", *options], check=True)
        return
    import numpy as np
    from ionraman.marker import low_frequency
    from ionraman.raman import spectral_density
    from ionraman.transport import diffusion

    # A lattice gas with thermal motion: a quarter of the mobile ions' sites are empty.
    rng, replicas = np.random.default_rng(0), 4
    frames, atoms = arguments.frames // replicas, arguments.atoms
    edge = round((atoms / 2 * 4 / 3) ** (1 / 3) + 0.5)
    grid = np.array(np.unravel_index(np.arange(edge**3), (edge,) * 3)).T * 3.5
    mobile = atoms // 2
    positions = np.empty((replicas, frames, atoms, 3), np.float32)
    for replica in range(replicas):
        start = grid[rng.permutation(len(grid))[:mobile]]
        hops = np.zeros((frames, mobile, 3), np.float32)
        for _ in range(frames // 200):
            hops[rng.integers(frames), rng.integers(mobile), rng.integers(3)] += rng.choice([-3.5, 3.5])
        positions[replica, :, :mobile] = start + hops.cumsum(axis=0)
        positions[replica, :, mobile:] = grid[: atoms - mobile] + 1.75
    positions += rng.normal(0, 0.15, positions.shape).astype(np.float32)
    alpha = rng.normal(0, 1, (replicas, frames, 2, 3, 3))
    alpha = alpha + np.swapaxes(alpha, -1, -2) + 100 * np.eye(3)
    cell_A, species = np.eye(3) * edge * 3.5, ["Na"] * mobile + ["S"] * (atoms - mobile)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start = time.perf_counter()
    result = diffusion(positions, cell_A, species, "Na", 0.01, temperature_K=800)
    transport = time.perf_counter() - start
    density = spectral_density(alpha, 0.01, 4000.0)
    low_frequency(density, 800, n_atoms=atoms, nu_max_cm=600)
    whole = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(
        f"analysis, {arguments.frames} frames of {atoms} atoms: {whole:.1f} s ({transport:.1f} s transport, verdict "
        f"{result.verdict}), peak memory {peak:.2f} GB (input {before:.2f} GB)"
    )


EMPTY_JOBS = """#!/bin/sh
# In the place of Python: every job ends at once, with empty results.
for word; do
  case $word in *.json|*.csv|*.html) [ -e "$word" ] || echo '{}' > "$word" ;; esac
done
case $1 in
  scripts/ranking.py) echo > "$2/ranking.csv" ;;
  scripts/report.py) echo > "$2/report.html" ;;
esac
"""


def scale() -> None:
    """Planning a campaign of many candidates (their structures are copies of one): a dry run of the whole table.

    With --launch also Snakemake's share of carrying it through: all jobs, which do nothing.
    """
    for count in arguments.candidates:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_many(folder, count)
            command = [sys.executable, "-m", "snakemake", "--profile", "profiles/local", "--configfile", "many.yaml"]
            # The first dry run also writes the packs.
            runs = {"first dry run": ["-n"], "second dry run": ["-n"]} | ({"launch of empty jobs": []} if arguments.launch else {})
            for words, options in runs.items():
                start = time.perf_counter()
                with open(folder / "out.txt", "w") as out:
                    process = subprocess.Popen(
                        [*command, "--quiet", "rules", *options],
                        cwd=folder,
                        env=os.environ | {"PATH": f"{folder}/bin:{os.environ['PATH']}"},
                        stdout=out,
                        stderr=subprocess.STDOUT,
                    )
                    _, status, usage = os.wait4(process.pid, 0)
                wall, text = time.perf_counter() - start, (folder / "out.txt").read_text()
                jobs = re.search(r"^total +(\d+)", text, re.MULTILINE)
                if status or not jobs:
                    sys.exit(text[-3000:])
                print(
                    f"scale, {count} candidates, {words}: {jobs.group(1)} jobs in {wall:.1f} s wall, "
                    f"{usage.ru_utime + usage.ru_stime:.1f} s CPU, peak memory {usage.ru_maxrss / 2**20:.2f} GiB",
                    flush=True,
                )


def write_many(folder: Path, count: int) -> None:
    """A project with a table of `count` candidates, and the program in Python's place."""
    import yaml

    for linked in ("Snakefile", "workflow", "scripts", "profiles"):
        (folder / linked).symlink_to(ROOT / linked)
    (folder / "config/structures").mkdir(parents=True)
    for copied in ("config.yaml", "models.yaml", "structures/NaCl.cif"):
        (folder / "config" / copied).write_bytes((ROOT / "config" / copied).read_bytes())
    rows = [f"c{number:05d}\tstructures/NaCl.cif\tNa" for number in range(count)]
    (folder / "config/many.tsv").write_text("\n".join(["name\tstructure\tmobile", *rows]) + "\n")
    overlay = {"campaign": "many", "candidates": "config/many.tsv", "select": {"names": [], "tags": []}}
    (folder / "many.yaml").write_text(yaml.safe_dump(overlay))
    (folder / "bin").mkdir()
    (folder / "bin/python").write_text(EMPTY_JOBS)
    (folder / "bin/python").chmod(0o755)


for what in arguments.what:
    {"dynamics": dynamics, "polarizability": polarizability, "analysis": analysis, "scale": scale}[what]()

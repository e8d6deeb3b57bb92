"""Cross-validate a polarizability ensemble by trajectory, and say how its errors fall with the number of labels.

Each fold leaves out a fifth of the trajectories of every material; the physical model (`alpha.physical`) and the members are fitted to all
of the rest and to random shares of it. Written to the output folder: cross_validation.csv,
learning_curve.svg and, below a digest of labels and settings, the predictions of every fit (NPZ; one that is there is not made again).

    python scripts/training/cross_validate.py labels.extxyz more.extxyz --out cv --jobs 8
"""

import argparse
import hashlib
import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"

import ase.io
import mace  # noqa: F401  (before e3nn)
import numpy as np
import pandas as pd
import torch
from ase.data import atomic_numbers
from ionraman.training import curve, fits
from ionraman.training import polarizability as dielectric
from ionraman.training.settings import AlphaFit

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("labels", nargs="+", type=Path, help="extxyz with alpha_A3, material (or system) and run")
parser.add_argument("--tensors", nargs="*", type=Path, default=[], help="extxyz of raman_tensors.py; those of a fold's trajectories are left out")
parser.add_argument("--out", type=Path, required=True)
parser.add_argument("--folds", type=int, default=5)
parser.add_argument("--members", type=int, default=2, help="fits to all of a fold's labels; shares have one")
parser.add_argument("--shares", type=float, nargs="*", default=[0.25, 0.5])
parser.add_argument("--epochs", type=int, default=AlphaFit.model_fields["epochs"].default)
parser.add_argument("--weight-decay", type=float, default=AlphaFit.model_fields["weight_decay"].default)
parser.add_argument("--no-physical", action="store_true", help="networks alone")
parser.add_argument("--no-networks", action="store_true", help="physical models alone")
parser.add_argument("--jobs", type=int, default=1, help="fits at a time, one core each")

TARGETS = {"isotropic": 0.15, "anisotropic": 0.20}
FEWEST = 9
"""Frames from which a material counts in the extrapolation."""


def read(files: list[Path]) -> list:
    """Labelled frames with their material and trajectory; a frame without a run is of the trajectory of its file and temperature."""
    frames = []
    for file in files:
        for atoms in ase.io.read(file, ":"):
            material = str(atoms.info.get("material") or atoms.info["system"])
            run = str(atoms.info.get("run") or f"{material}-{atoms.info.get('temperature_K')}-{file.stem}")
            atoms.info |= {"material": material, "run": run}
            frames.append(atoms)
    return frames


def folds_of(frames: list, count: int) -> np.ndarray:
    """(frames,) fold of each frame's trajectory; the trajectories of every material are spread over all folds."""
    rng, fold = np.random.default_rng(3), {}
    for material in sorted({atoms.info["material"] for atoms in frames}):
        runs = sorted({atoms.info["run"] for atoms in frames if atoms.info["material"] == material})
        for run in rng.permutation(runs):
            fold[str(run)] = len(fold) % count
    return np.array([fold[atoms.info["run"]] for atoms in frames])


def digest_of(files: list[Path], folds: int, settings: AlphaFit) -> str:
    """Of the labels in their order, the folds and the settings: what the predictions depend on."""
    content = hashlib.sha256(f"{folds} {settings.model_dump_json()}".encode())
    for file in (*files, *map(Path, settings.tensors)):
        content.update(file.stem.encode() + file.read_bytes())
    return content.hexdigest()[:16]


def fit(files: list[Path], out: Path, folds: int, fold: int, share: float, seed: int, settings: AlphaFit) -> str:
    """One member that did not see `fold`; its predictions (frames, 3, 3) in A^3 of all frames are written."""
    name = f"cv{share:g}-{fold}-{seed}"
    if (out / f"{name}.npz").exists():
        return name
    torch.set_num_threads(1)
    frames = read(files)
    place = folds_of(frames, folds)
    train = [atoms for atoms, k in zip(frames, place, strict=True) if k != fold]
    if share < 1:
        rng, kept = np.random.default_rng([seed, fold, 23]), []
        for material in sorted({atoms.info["material"] for atoms in train}):
            own = [k for k, atoms in enumerate(train) if atoms.info["material"] == material]
            kept += list(rng.permutation(own)[: max(2, round(share * len(own)))])
        train = [train[k] for k in sorted(kept)]
    alpha, materials = fits.labels_of(train)
    numbers = [atomic_numbers[symbol] for symbol in dielectric.species_of(frames)]
    deviations = dielectric.thermal_deviation(alpha, materials)
    unseen = dielectric.left_out(train, seed, settings.members)
    runs = {atoms.info["run"] for atoms, k in zip(frames, place, strict=True) if k == fold}
    tensors = [atoms for atoms in fits.read_tensors(settings.tensors) if atoms.info["run"] not in runs]
    standard = dielectric.Standard.of(train, alpha, deviations, settings, unseen, tensors)
    networks = []
    if settings.networks:
        networks = [
            dielectric.fit_member(
                train, alpha, deviations, numbers, fits.architecture(settings), standard, seed=seed, epochs=settings.epochs,
                learning_rate=settings.learning_rate, batch=settings.batch_size, weight_decay=settings.weight_decay,
                checkpoint=out / f"{name}.checkpoint",
            )
        ]  # fmt: skip
    predicted = standard.model(networks).predict(frames).sum(axis=2)[:, 0]
    np.savez(out / f"{name}.npz", predicted=predicted, n=len(train))
    (out / f"{name}.checkpoint").unlink(missing_ok=True)
    return name


def errors(alpha: np.ndarray, predicted: np.ndarray, materials: list[str], runs: list[str]) -> list[tuple]:
    """(material, quantity, error, bar): errors over thermal deviations, and their standard deviation over draws of trajectories."""
    table = dielectric.relative_errors(predicted, alpha, materials)
    rng, rows = np.random.default_rng(0), []
    a, beta = dielectric.isotropic_anisotropic(predicted - alpha)
    squares = {"isotropic": a**2, "anisotropic": (beta**2).sum(axis=(1, 2))}
    for material, row in table.items():
        own = np.array([k for k, name in enumerate(materials) if name == material])
        names = sorted({runs[k] for k in own})
        members = [[k for k in own if runs[k] == name] for name in names]
        for quantity, square in squares.items():
            drawn = [
                np.sqrt(np.mean([square[k] for r in rng.integers(len(names), size=len(names)) for k in members[r]]))
                for _ in range(400)
            ]
            scale = row[quantity] / np.sqrt(square[own].mean())
            rows.append((material, quantity, row[quantity], float(np.std(drawn) * scale), row["frames"]))
    return rows


def amplitudes(alpha: np.ndarray, predicted: np.ndarray, materials: list[str]) -> dict[str, tuple[float, float]]:
    """Of each material, predicted over labelled size of the fluctuations, isotropic and anisotropic: a fit of few labels shrinks them."""
    parts = [dielectric.isotropic_anisotropic(tensors) for tensors in (predicted, alpha)]
    found = {}
    for material in sorted(set(materials)):
        own = np.array([name == material for name in materials])
        (a, beta), (label_a, label_beta) = [(a[own], beta[own]) for a, beta in parts]
        found[material] = (float(a.std() / label_a.std()), float(np.sqrt((beta**2).sum() / (label_beta**2).sum())))
    return found


def needed(rows: pd.DataFrame, quantity: str, frames: dict[str, int]) -> str:
    """What a power law through the geometric means over materials says of the target."""
    own = rows[(rows["quantity"] == quantity) & rows["material"].map(lambda name: frames[name] >= FEWEST)]
    means = np.log(own.groupby("labels")["error"].apply(lambda x: np.exp(np.log(x).mean())))
    power, constant = np.polyfit(np.log(means.index.to_numpy(float)), means, 1)
    if power > -0.05:
        return f"{quantity}: no fall with the number of labels"
    count = np.exp((np.log(TARGETS[quantity]) - constant) / power)
    return f"{quantity}: error ~ labels^{power:.2f}; {TARGETS[quantity]:g} needs about {count:.0f} labels (all materials together)"


def main() -> None:
    arguments = parser.parse_args()
    settings = AlphaFit(
        members=arguments.members, epochs=arguments.epochs, weight_decay=arguments.weight_decay,
        physical=not arguments.no_physical, networks=not arguments.no_networks, tensors=[str(file) for file in arguments.tensors],
    )
    fitted = arguments.out / digest_of(arguments.labels, arguments.folds, settings)
    fitted.mkdir(parents=True, exist_ok=True)
    plan = [(fold, 1.0, seed) for seed in range(arguments.members) for fold in range(arguments.folds)]
    plan += [(fold, share, 0) for share in arguments.shares for fold in range(arguments.folds)]
    with ProcessPoolExecutor(arguments.jobs) as pool:
        jobs = [pool.submit(fit, arguments.labels, fitted, arguments.folds, *job, settings) for job in plan]
        for job in jobs:
            print(job.result(), flush=True)
    frames = read(arguments.labels)
    place, runs = folds_of(frames, arguments.folds), [atoms.info["run"] for atoms in frames]
    alpha, materials = fits.labels_of(frames)
    rows, counts = [], {}
    for share in sorted({*arguments.shares, 1.0}):
        seeds = range(arguments.members) if share == 1 else (0,)
        predicted, labels = np.zeros_like(alpha), []
        for fold in range(arguments.folds):
            stored = [np.load(fitted / f"cv{share:g}-{fold}-{seed}.npz") for seed in seeds]
            predicted[place == fold] = np.mean([one["predicted"] for one in stored], axis=0)[place == fold]
            labels.append(int(stored[0]["n"]))
        for material, quantity, error, bar, count in errors(alpha, predicted, materials, runs):
            counts[material] = count
            rows.append((0, "alpha", quantity, material, round(np.mean(labels)), error, bar, len(seeds) * arguments.folds))
    columns = ["generation", "kind", "quantity", "material", "labels", "error", "sd", "fits"]
    table = pd.DataFrame(rows, columns=columns)
    table.round(4).to_csv(arguments.out / "cross_validation.csv", index=False)
    curve.draw(table, arguments.out / "learning_curve.svg")
    whole = table[table["labels"] == table["labels"].max()]
    sizes = amplitudes(alpha, predicted, materials)  # of the last share, which is all labels
    for material, own in whole.groupby("material"):
        words = ", ".join(f"{row.quantity} {row.error:.2f} +- {row.sd:.2f}" for row in own.itertuples())
        size = " and ".join(f"{ratio:.2f}" for ratio in sizes[material])
        print(f"{material} ({counts[material]} frames): {words}; fluctuations {size} of the labels'")
    for quantity in TARGETS:
        print(needed(table, quantity, counts))


if __name__ == "__main__":
    main()

"""What a paper needs of a campaign, in one archive: tables with units, spectra, figures, configuration, models, methods."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from pathlib import Path

import pandas as pd

from ionraman.methods import methods, source_entries, structure_sources
from ionraman.ranking import read_ranking
from ionraman.report.curves import run_folder
from ionraman.report.figures import overview
from ionraman.trajectory import read_json, trajectory_store

PACKAGES = ("ionraman", "snakemake", "torch", "torch-sim-atomistic", "mace-torch", "kinisi", "ase", "pymatgen", "spglib", "numpy",
            "scipy", "pandas")  # fmt: skip

_UNITS = {"wavenumber_cm": "wavenumber [cm^-1]", "lag_ps": "lag [ps]"}


def export(
    folder: Path, root: Path, config_files: list[Path], settings: dict, target: Path, trajectories: list[dict]
) -> list[str]:
    """Write the archive `target` (zip) of the campaign in `folder`.

    Args:
        root: the project; config_files: base and overlays, relative to it.
        settings: of the merged configuration, as a dict.
        trajectories: runs of campaign.json whose trajectory is added as extxyz, one file a replica.

    Returns:
        What could not be included, one sentence each.
    """
    campaign, ranking = read_json(folder / "campaign.json"), read_ranking(folder / "ranking.csv")
    runs = [
        (run, run_folder(folder / "runs", run["candidate"], run["temperature_K"])) for run in campaign["runs"]
    ]
    summaries = [read_json(own / "summary.json") for _, own in runs if (own / "summary.json").exists()]
    sources = structure_sources((root / "config/structures/README.md").read_text())
    names = sorted({run["candidate"] for run in campaign["runs"]})
    problems: list[str] = []
    partial = target.with_name(f".{target.name}")
    with zipfile.ZipFile(partial, "w", zipfile.ZIP_DEFLATED) as archive:
        _copy(archive, folder, ["ranking.csv", "report.html", "campaign.json"])
        _copy(archive, root, [str(file) for file in config_files])
        _copy(archive, root, [settings["candidates"], settings["models"]["file"]])
        archive.writestr("config/settings.json", json.dumps(settings, indent=1))
        for run, own in runs:
            label = f"{run['candidate']}_{run['temperature_K']:g}K"
            for table, place in (("spectrum", "spectra"), ("msd", "msd")):
                if (own / f"{table}.csv").exists():
                    archive.writestr(f"{place}/{label}.csv", _with_units(own / f"{table}.csv"))
            _copy(archive, own, ["summary.json"], f"summaries/{label}.json")
        for name in names:
            _copy(archive, folder / "structures" / name, ["structure.cif"], f"cells/{name}.cif")
        used = {
            s["candidate"]: s["structure"]["source_file"]
            for s in summaries
            if s["structure"].get("source_file")
        }
        for file in sorted(set(used.values())):
            _copy(archive, root, [file])
        archive.writestr("structures.csv", _structures(used, sources))
        archive.writestr("seeds.csv", _seeds(summaries))
        for model in campaign["models"]:
            present = [name for name in ("card.json", "model.json") if (root / model["path"] / name).exists()]
            for name in present:
                _copy(archive, root / model["path"], [name], f"models/{model['role']}_{model['name']}/{name}")
            if not present:
                problems.append(f"{model['path']} has no card.")
        versions = _versions()
        archive.writestr("versions.json", json.dumps(versions, indent=1))
        archive.writestr("methods.md", methods(campaign, summaries, versions, settings))
        stems = [Path(file).stem for file in used.values()]
        archive.writestr(
            "references.bib",
            (files("ionraman") / "references.bib").read_text() + "\n" + source_entries(sources, stems),
        )
        for suffix in ("svg", "pdf"):
            figure = io.BytesIO()
            try:
                overview(ranking, folder / "runs", figure, suffix=suffix)
                archive.writestr(f"figures/overview.{suffix}", figure.getvalue())
            except (ValueError, OSError) as error:
                problems.append(f"No figure overview.{suffix}: {error}.")
        for run in trajectories:
            own = run_folder(folder / "runs", run["candidate"], run["temperature_K"])
            if not trajectory_store(own).paths():
                problems.append(
                    f"{run['candidate']} {run['temperature_K']:g} K has no trajectory (none yet, or cleaned)."
                )
            for replica in range(run["replicas"] if trajectory_store(own).paths() else 0):
                name = (
                    f"trajectories/{run['candidate']}_{run['temperature_K']:g}K_replica{replica + 1}.extxyz"
                )
                with archive.open(name, "w", force_zip64=True) as stream:
                    for frame in extxyz(own, replica):
                        stream.write(frame.encode())
        archive.writestr("README.txt", _readme(campaign, problems))
    partial.replace(target)
    return problems


def extxyz(own: Path, replica: int) -> Iterator[str]:
    """Frames of one replica of a run, as extended XYZ: unwrapped positions in A, total energy in eV, time in ps."""
    for first, arrays, metadata in trajectory_store(own).segments():
        species, cell = metadata["species"], " ".join(f"{x:.8f}" for row in metadata["cell_A"] for x in row)
        for k, positions in enumerate(arrays["positions_A"][replica]):
            time_ps = (first + k) * metadata["sampling_fs"] / 1000
            lines = [
                f"{symbol} {x:.5f} {y:.5f} {z:.5f}\n"
                for symbol, (x, y, z) in zip(species, positions, strict=True)
            ]
            yield (
                f'{len(species)}\nLattice="{cell}" Properties=species:S:1:pos:R:3 pbc="T T T" time_ps={time_ps:.4f} '
                f"total_energy_eV={arrays['energy_eV'][replica, k]:.6f} temperature_K={arrays['temperature_K'][replica, k]:.2f}\n"
                + "".join(lines)
            )


def _copy(archive: zipfile.ZipFile, base: Path, names: list[str], target: str | None = None) -> None:
    for name in names:
        if (base / name).exists():
            archive.write(base / name, target or name)


def _with_units(file: Path) -> str:
    """The table with its units in the header; of spectrum.csv all but the wavenumber are A^3 per cm^-1."""
    table = pd.read_csv(file)
    names = {}
    for name in table:
        if name.startswith("msd_"):
            names[name] = f"{name.removesuffix('_A2')} [A^2]"
        else:
            names[name] = _UNITS.get(name, f"{name} [A^3 per cm^-1]")
    return table.rename(columns=names).to_csv(index=False)


def _structures(used: dict[str, str], sources: dict[str, dict[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["candidate", "file", "tier", "space_group", "T_K", "source"])
    for name, file in used.items():
        source = sources.get(Path(file).stem, {})
        writer.writerow(
            [name, file, *(source.get(key, "") for key in ("tier", "space_group", "T_K", "source"))]
        )
    return text.getvalue()


def _seeds(summaries: list[dict]) -> str:
    lines = ["candidate,temperature_K,structure_seed,dynamics_seed"]
    for s in summaries:
        seeds = [s[part].get("seed", "") for part in ("structure", "dynamics")]
        lines.append(f"{s['candidate']},{s['temperature_K']:g},{seeds[0]},{seeds[1]}")
    return "\n".join(lines) + "\n"


def _versions() -> dict[str, str]:
    import platform

    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _readme(campaign: dict, problems: list[str]) -> str:
    return "\n".join([
        f"Campaign {campaign['campaign']}, written by ionraman {campaign['version']} (scripts/campaign export).", "",
        "ranking.csv, report.html   the ranked table and the report",
        "methods.md, references.bib methods from the records, with citation keys",
        "spectra/, msd/             curves, units in the header (_se: standard error over replicas or blocks)",
        "figures/                   overview as SVG and PDF",
        "cells/, structures.csv     simulation cells; sources of the structures",
        "summaries/                 all records of each run",
        "config/, seeds.csv         what was asked for; settings.json is the merged configuration",
        "models/, versions.json     model cards; software",
        "trajectories/              extended XYZ, on demand: unwrapped positions", "",
        *problems,
    ]) + "\n"  # fmt: skip

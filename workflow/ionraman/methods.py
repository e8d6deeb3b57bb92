"""The methods paragraph of a campaign, from what its records say was done, with keys of references.bib."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ionraman.trajectory import read_json


def methods(campaign: dict, summaries: list[dict], versions: dict[str, str], settings: dict) -> str:
    """Markdown text of the methods of a campaign.

    Args:
        campaign: campaign.json; summaries: summary.json of its runs, as far as they exist; versions: of packages;
        settings: of the configuration, by group (of it, what no record holds).
    """
    cells = list(
        {s["candidate"]: s["structure"] for s in summaries if s["structure"]["status"] == "complete"}.values()
    )
    ran = [s for s in summaries if "frames" in s["dynamics"]]
    marked = [s["marker"] for s in summaries if s["marker"].get("I_low_A3") is not None]
    parts = [
        f"# Methods\n\nWritten by ionraman {campaign['version']} from the records of the campaign `{campaign['campaign']}`. "
        "Keys in brackets are those of references.bib.",
        _scope(campaign, summaries),
    ]
    if cells:
        parts.append(_cells(cells))
    if ran:
        parts.append(_dynamics(campaign, ran, settings))
        parts.append(_transport(campaign, summaries))
    if marked:
        parts.append(_raman(campaign, summaries, marked))
    parts.append(_software(versions))
    return "\n\n".join(parts) + "\n"


def _scope(campaign: dict, summaries: list[dict]) -> str:
    names = {run["candidate"] for run in campaign["runs"]}
    states = Counter(s["status"] for s in summaries)
    temperatures = _span(run["temperature_K"] for run in campaign["runs"])
    missing = len(campaign["runs"]) - len(summaries)
    ends = [f"{count} {status}" for status, count in states.most_common()] + (
        [f"{missing} not finished"] if missing else []
    )
    return (
        f"**Candidates.** {_count(len(names), 'candidate')} at {temperatures} K ({_count(len(campaign['runs']), 'run')}: "
        f"{', '.join(ends)}) were screened for low-frequency Raman intensity and diffusion of the mobile ion, after the proposal of "
        f"Grumet et al. [Grumet2026]. They are ranked at {campaign['reference_temperature_K']:g} K by the key {campaign['key']!r}."
    )


def _cells(cells: list[dict]) -> str:
    doped = [cell for cell in cells if cell["carriers_requested"]]
    ordered = [cell for cell in cells if cell["occupancies_realised"]]
    text = (
        f"**Cells.** Simulation cells of {_span(cell['n_atoms'] for cell in cells)} atoms with periodic images at least "
        f"{min(cell['shortest_image_A'] for cell in cells):.1f} A apart were built from the structure files (pymatgen [Ong2013], spglib "
        f"[Togo2024], ASE [Larsen2017]; sources in structures.csv)."
    )
    if ordered:
        text += f" Partial occupancies of {_count(len(ordered), 'candidate')} were ordered at whole numbers of ions."
    if doped:
        text += f" Carriers were placed at random sites by seed in {_count(len(doped), 'candidate')}: " + "; ".join(
            f"{cell['formula']} ({', '.join(f'{label} {count}' for label, count in cell['carriers_realised'].items())})" for cell in doped
        ) + "."  # fmt: skip
    return text


def _dynamics(campaign: dict, ran: list[dict], settings: dict) -> str:
    records = [s["dynamics"] for s in ran]
    own = settings.get("dynamics", {})
    models = {(record["force_model"], record["force_model_sha256"][:12]) for record in records}
    settled = sum(bool(record["npt_settled"]) for record in records)
    tau = f" (relaxation time {own['thermostat_tau_ps']:g} ps)" if "thermostat_tau_ps" in own else ""
    text = (
        f"**Molecular dynamics.** Forces came from the MACE [Batatia2022] force field "
        f"{', '.join(f'`{name}` (SHA-256 {digest}...)' for name, digest in sorted(models))}, integrated with torch-sim [Cohen2025] with "
        f"a time step of {_span(r['timestep_fs'] for r in records)} fs. Positions and cell were relaxed (FIRE [Bitzek2006]), largest force left "
        f"{max(r['relax_fmax_eV_A'] for r in records):.2g} eV/A; the cell was then equilibrated at zero pressure by anisotropic stochastic "
        f"cell rescaling [Bernetti2020] for {_span(r['npt_ps'] for r in records)} ps and its mean taken"
        f"{'' if settled == len(records) else f' (settled by the criterion of the program in {settled} of {len(records)} runs)'}. In that cell "
        f"{_span(r['replicas'] for r in records)} replicas with velocities of their own were thermalised by Langevin dynamics{tau} for "
        f"{_span(run['nvt_ps'] for run in campaign['runs'])} ps and run at constant energy for {_span(r['production_ps'] for r in records)} ps "
        f"each, of which a frame was kept every {_span(r['sampling_fs'] for r in records)} fs. The energy drifted by at most "
        f"{max(r['drift_meV_atom'] for r in records):.2g} meV/atom; mean temperatures were {_span(round(r['mean_temperature_K']) for r in records)} K."
    )
    lost = Counter(s["status"] for s in ran if s["status"] in ("melted", "unstable"))
    return text + (f" {', '.join(f'{count} {status}' for status, count in lost.items())}." if lost else "")


def _transport(campaign: dict, summaries: list[dict]) -> str:
    found = [s["transport"] for s in summaries if s["transport"].get("verdict")]
    verdicts = Counter(record["verdict"] for record in found)
    sources = Counter(record["interval_from"] for record in found if record["interval_from"])
    text = (
        "**Diffusion.** Net jumps of the mobile ions between their mean sites were counted, and the mean squared displacement was averaged over "
        "replicas; a tracer diffusivity is stated only where jumps and displacement both show diffusion, otherwise an interval from "
        f"the jumps or an upper bound ({campaign['confidence']:.0%} confidence)."
    )
    if "kinisi" in sources:
        text += " Intervals of slopes are those of kinisi [McCluskey2024, McCluskey2025]."
    if found:
        text += (
            " Verdicts: " + ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common()) + "."
        )
    return text


def _kind(campaign: dict) -> str:
    """What the members of the polarizability ensemble are, as far as the model's folder says so."""
    folders = [Path(model["path"]) for model in campaign["models"] if model["role"] == "alpha"]
    physical = any((folder / "model.json").exists() and "physical" in read_json(folder / "model.json") for folder in folders)
    networks = not physical or any(list(folder.glob("member_*.safetensors")) for folder in folders)
    below = "bond polarizabilities of the anions, with terms of pairs of neighbours, in one another's dipole fields (Ewald sum), fitted to most of the labels"
    if not networks:
        return f"models ({below})"
    return "MACE dielectric models" + (f", added to {below}" if physical else "")


def _raman(campaign: dict, summaries: list[dict], marked: list[dict]) -> str:
    models = {
        (s["alpha_model"], s["alpha_model_sha256"][:12]) for s in summaries if s.get("alpha_model_sha256")
    }
    members = max(len(marker["I_low_members"]) for marker in marked)
    first = marked[0]
    return (
        f"**Raman spectra.** The polarizability tensor of every frame was predicted by an ensemble of {members} {_kind(campaign)}: "
        f"{', '.join(f'`{name}` (SHA-256 {digest}...)' for name, digest in sorted(models))}. Its spectral density (Welch's method, Hann window, "
        f"segments of {_span(m['segment_ps'] for m in marked)} ps, resolution {_span(round(m['resolution_cm'], 1) for m in marked)} cm^-1) gives "
        f"the non-resonant, transverse Stokes spectrum of a powder [Long2002] at {_span(m['laser_nm'] for m in marked)} nm, in A^3 per cm^-1 and "
        f"per volume. The marker I_low is its integral from {_span(m['nu1_cm'] for m in marked)} to {_span(m['nu2_cm'] for m in marked)} cm^-1; "
        f"intervals ({first['confidence']:.0%}) are Student t over replicas or blocks of segments. The members of the ensemble differ in I_low by "
        f"{_span(f'{100 * m["alpha_spread"]:.0f}' for m in marked if m['alpha_spread'] is not None)} %."
    )


def _software(versions: dict[str, str]) -> str:
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    return f"**Software.** The workflow ran under Snakemake [Molder2021]. Versions: {listed}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def _span(values: Iterable) -> str:
    """One value, or the least and the largest."""
    different = sorted({float(value) for value in values})
    if not different:
        return "-"
    return f"{different[0]:g}" if len(different) == 1 else f"{different[0]:g} to {different[-1]:g}"


def structure_sources(readme: str) -> dict[str, dict[str, str]]:
    """Tier, space group, temperature and source of each structure file, from the table in config/structures/README.md."""
    rows = [
        [cell.strip() for cell in line.strip().strip("|").split("|")]
        for line in readme.splitlines()
        if line.startswith("|")
    ]
    names = ("tier", "space_group", "T_K", "source")
    return {row[0]: dict(zip(names, row[1:], strict=True)) for row in rows[2:] if len(row) == 5}


def source_entries(sources: dict[str, dict[str, str]], used: Iterable[str]) -> str:
    """BibTeX entries of the sources of the structure files `used`, as their table states them, with the doi where it has one."""
    entries = []
    for name in sorted(set(used) & set(sources)):
        note = sources[name]["source"]
        doi = re.search(r"doi:(10\.\S+?)[).,;]*(?:\s|$)", note)
        fields = [f"  title = {{Structure {_plain(name)}}}", f"  note = {{{_plain(note)}}}"]
        fields += [f"  doi = {{{doi.group(1)}}}"] if doi else []
        entries.append(
            f"@misc{{structure:{re.sub('[^A-Za-z0-9]', '', name)},\n" + ",\n".join(fields) + "\n}\n"
        )
    return "\n".join(entries)


def _plain(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text)

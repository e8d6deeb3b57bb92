"""A finished-looking campaign made of random numbers: summaries and the files that the report reads."""

import numpy as np
import pandas as pd

FORCE_SHA, ALPHA_SHA = "a1" * 32, "b2" * 32
REPLICAS, MEMBERS = 4, 4
_VERDICTS = {  # verdict: D, interval, jumps
    "diffusing": (1.2e-5, 0.9e-5, 1.6e-5, 412),
    "few jumps": (None, 0.3e-6, 2.4e-6, 9),
    "not diffusing": (None, None, 4.1e-7, 0),
}


def units(I_low, *, relative_error=0.03, member_spread=0.02, seed=0, replicas=REPLICAS, members=MEMBERS):
    """I_low of each ensemble member and replica, (members, replicas), with the given mean and scatter."""
    noise = np.random.default_rng(seed).normal(size=replicas)
    noise = (noise - noise.mean()) / noise.std(ddof=1) if replicas > 1 else noise
    members = np.linspace(-1, 1, members) * member_spread if members > 1 else np.zeros(1)
    values = np.exp(relative_error * noise)[None] * np.exp(members)[:, None]
    return I_low * values / values.mean()


def marker(I_low, *, nu1_cm=5.0, R_low=None, r_low=None, **scatter):
    """What marker.json holds, for a campaign in which R_low and r_low follow I_low unless given."""
    values = units(I_low, **scatter)
    by_member = values.mean(axis=1)
    R_low, r_low = R_low if R_low is not None else 50 * I_low, r_low if r_low is not None else 3000 * I_low
    return {
        "nu1_cm": nu1_cm, "nu2_cm": 50.0, "nu1_requested_cm": 5.0, "temperature_K": 300.0, "laser_nm": 785.0,
        "confidence": 0.95, "I_low_A3": I_low, "I_low_low": 0.9 * I_low, "I_low_high": 1.1 * I_low,
        "R_low": R_low, "R_low_low": 0.9 * R_low, "R_low_high": 1.1 * R_low,
        "r_low": r_low, "r_low_low": 0.9 * r_low, "r_low_high": 1.1 * r_low,
        "chi_low": 0.3 * I_low, "chi_low_low": 0.27 * I_low, "chi_low_high": 0.33 * I_low,
        "alpha_spread": float(by_member.std(ddof=1) / by_member.mean()) if len(by_member) > 1 else None,
        "I_low_members": by_member.tolist(), "I_low_units": values.tolist(),
        "windows": [
            {"nu1_cm": nu1_cm, "nu2_cm": high, "I_A3": share * I_low, "I_A3_low": 0.9 * share * I_low,
             "I_A3_high": 1.1 * share * I_low}
            for high, share in ((20.0, 0.3), (50.0, 1.0), (100.0, 2.4))
        ],
        "floor": 1e-3 * I_low, "floor_share": 0.01, "nu_max_cm": 480.0, "resolution_cm": 1.9,
        "segment_ps": 26.7, "n_segments": 28, "unit": "replica", "undetermined": False, "status": "complete",
        "reason": "",
    }  # fmt: skip


def transport(verdict, *, scale=1.0, **changes):
    """What transport.json holds; scale multiplies D and its interval."""
    D, low, high, jumps = _VERDICTS[verdict]
    values = {
        "verdict": verdict, "D_cm2_s": D and scale * D, "D_low": low and scale * low, "D_high": scale * high,
        "jumps": jumps, "ions_jumped": min(jumps, 20), "confidence": 0.95, "log_slope": 0.93,
        "interval_from": "jump statistics", "reason": f"{jumps} net jumps were seen.",
        "sigma_NE_mS_cm": D and 3e6 * scale * D, "sigma_NE_low": None, "sigma_NE_high": None,
    }  # fmt: skip
    return values | changes


def summary(
    candidate, temperature_K=300.0, *, marker=None, transport=None, status="complete", reason="", **structure
):
    """What summary.json holds; further arguments replace parts of the structure."""
    return {
        "candidate": candidate, "formula": structure.get("formula", "Na23Sb7WS32"),
        "temperature_K": temperature_K, "status": status, "reason": reason,
        "structure": {
            "status": "complete", "reason": "", "formula": "Na23Sb7WS32", "n_atoms": 63,
            "supercell_matrix": [[2, 0, 0], [0, 2, 0], [0, 0, 1]], "shortest_image_A": 14.3,
            "carriers_requested": "vacancies=1", "carriers_realised": {"vacancies": 1}, "net_charge_e": 0,
            "volume_A3": 1486.2, "source_file": f"structures/{candidate}.cif", "tags": ["thioantimonate"],
            "sigma300_S_cm": 3.2e-2, "sigma_source": "Hayashi 2019", "mobile": "Na", "gap_eV": 2.1,
        } | structure,
        "dynamics": {
            "status": "complete", "reason": "", "timestep_fs": 2.0, "sampling_fs": 10.0, "replicas": REPLICAS,
            "steps": 200_000, "production_ps": 100.0, "npt_ps": 10.0, "npt_settled": True,
            "mean_temperature_K": temperature_K + 1.3,
            "temperature_replicas_K": [temperature_K + x for x in (-12.4, 3.0, 5.6, 9.0)], "drift_meV_atom": 0.04,
            "mean_cell_A": [[14.4, 0, 0], [0, 14.4, 0], [0, 0, 7.3]], "volume_A3": 1513.7,
            "force_model": "small", "force_model_sha256": FORCE_SHA, "device": "cuda", "seed": 1,
            "seconds": 5400.0,
        },
        "transport": transport, "marker": marker,
        "alpha_model": "small", "alpha_model_sha256": ALPHA_SHA,
    }  # fmt: skip


def campaign():
    """Six candidates at two temperatures, with every verdict, a tie and several ways to be unfinished."""
    rows = []
    cases = {
        "Na3SbS4_W": (5.1e-3, "diffusing", 1.0),
        "Na3PS4_cub": (2.3e-3, "few jumps", 1.0),
        "Na3PSe4_cub": (2.35e-3, "few jumps", 0.9),
        "NaCl": (4.0e-4, "not diffusing", 1.0),
    }
    for T, hotter in ((300.0, 1.0), (600.0, 4.0)):
        for seed, (name, (I_low, verdict, scale)) in enumerate(cases.items()):
            rows.append(
                summary(
                    name,
                    T,
                    marker=marker(hotter * I_low, seed=seed),
                    transport=transport(verdict, scale=hotter * scale),
                )
            )
    melted = "The host's centres moved by 3.1 A, more than 1.5 A: the crystal has melted."
    rows.append(summary("Na2B12H12", 300.0, status="running", reason="31 % of 100 ps"))
    rows.append(summary("Na2B12H12", 600.0, status="melted", reason=melted))
    rows.append(summary("Na3YCl6", 300.0, status="failed", reason="The job was killed after 3 tries."))
    uncovered = "The polarizability model does not cover Y."
    rows.append(
        summary("Na3YCl6", 600.0, status="unsupported", reason=uncovered, transport=transport("diffusing"))
    )
    return rows


def write_curves(runs, rows, *, points=400):
    """msd.csv and spectrum.csv of every row that has a marker."""
    for number, row in enumerate(rows):
        if row["transport"] is None:
            continue
        folder = runs / row["candidate"] / f"{row['temperature_K']:g}K"
        folder.mkdir(parents=True)
        _write_msd(folder, row["transport"])
        if row["marker"] is None:
            continue
        noise = np.random.default_rng(number)
        nu = np.linspace(0.6, 1000.0, points * 4)
        spectrum = sum(
            height * width / ((nu - centre) ** 2 + width**2)
            for centre, width, height in ((0, 25, 8), (80, 18, 3), (145, 12, 5), (362, 4, 30), (386, 4, 12))
        )
        spectrum = row["marker"]["I_low_A3"] / 40 * spectrum * np.exp(0.05 * noise.normal(size=len(nu)))
        columns = {"wavenumber_cm": nu, "I_unpolarised": spectrum, "I_unpolarised_se": 0.06 * spectrum}
        table = pd.DataFrame(columns)
        for name in ("S_a", "S_gamma", "I_VV", "I_VH", "chi2"):
            table[name] = spectrum
        table["S_a_se"] = table["S_gamma_se"] = table["I_unpolarised_se"]
        for m, factor in enumerate(np.linspace(0.93, 1.07, MEMBERS)):
            table[f"I_member_{m}"] = factor * spectrum
        table.to_csv(folder / "spectrum.csv", index=False)


def _write_msd(folder, diffusion):
    lag = np.geomspace(0.01, 50, 80)
    slope = 6e4 * (diffusion["D_cm2_s"] or (1e-6 if diffusion["jumps"] else 0))
    msd = 0.8 * (1 - np.exp(-lag / 0.3)) + slope * lag
    error = msd * np.sqrt(lag / 1000)
    replicas = {f"msd_{r}_A2": msd + (r - 1.5) * error for r in range(REPLICAS)}
    table = pd.DataFrame({"lag_ps": lag, "msd_A2": msd, "msd_se_A2": error, **replicas})
    table.to_csv(folder / "msd.csv", index=False)


CAMPAIGN_INFO = {
    "campaign": "demo",
    "reference_temperature_K": 300.0,
    "key": "pareto",
    "confidence": 0.95,
    "version": "0.1.0",
    "models": [
        {"role": "force", "name": "small", "sha256": FORCE_SHA, "licence": "BSD-3-Clause"},
        {"role": "alpha", "name": "small", "sha256": ALPHA_SHA, "licence": "BSD-3-Clause"},
    ],
}

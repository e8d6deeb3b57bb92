"""What the report says of each candidate beyond the table."""

from collections.abc import Callable

import pandas as pd

from ionraman.report.words import cell_lengths, diffusivity, formula, known, number, with_interval


def candidate_views(ranking: pd.DataFrame, summaries: list[dict], confidence: float) -> list[dict]:
    """One view a candidate, in the order of the ranking: its structure, and a table of its temperatures.

    A view has name, formula, states (one text a temperature), rows (numbers of its rows in the ranking),
    facts (label, text) of the structure, temperatures, and table: (label, one text a temperature), without
    empty lines.
    """
    by_run = {(summary["candidate"], summary["temperature_K"]): summary for summary in summaries}
    grouped: dict[str, list[dict]] = {}
    for place, row in enumerate(ranking.to_dict("records")):
        grouped.setdefault(row["candidate"], []).append(row | {"place": place})
    views = []
    for name, rows in grouped.items():
        rows.sort(key=lambda row: row["temperature_K"])
        runs = [(row, by_run.get((name, row["temperature_K"]), {})) for row in rows]
        structure = next((run["structure"] for _, run in runs if run.get("structure")), {})
        lines = [[label, *cells] for label, cells in _Runs(runs).lines(confidence)]
        views.append(
            {
                "name": name,
                "formula": next((row["formula"] for row, _ in runs if known(row["formula"])), ""),
                "first": min(row["place"] for row in rows),
                "rows": [row["place"] for row in rows],
                "rank": next((int(row["rank"]) for row, _ in runs if known(row["rank"])), None),
                "states": [
                    f"{row['temperature_K']:g} K {row['verdict'] if known(row['verdict']) else row['status']}"
                    for row, _ in runs
                ],
                "facts": [(label, text) for label, text in _facts(structure) if text],
                "temperatures": [f"{row['temperature_K']:g} K" for row, _ in runs],
                "table": [line for line in lines if any(cell not in ("–", "") for cell in line[1:])],
            }
        )
    return views


def _facts(structure: dict) -> list[tuple[str, str]]:
    """Label and text of what is known of the cell that was built."""

    def text(key: str, unit: str = "", digits: int = 4) -> str:
        value = structure.get(key)
        if value is None or value == []:
            return ""
        shown = number(value, digits) if isinstance(value, int | float) else str(value)
        return f"{shown} {unit}".strip()

    realised = structure.get("carriers_realised")
    matrix = structure.get("supercell_matrix")
    sigma = text("sigma300_S_cm", "S/cm", 2)
    source = structure.get("sigma_source")
    tags = structure.get("tags") or []
    return [
        ("Formula of the cell", formula(structure.get("formula"))),
        ("Source", text("source_file")),
        ("Atoms", text("n_atoms")),
        ("Supercell", "; ".join(" ".join(f"{x:g}" for x in row) for row in matrix) if matrix else ""),
        ("Shortest distance to an image", text("shortest_image_A", "Å", 3)),
        ("Carriers requested", text("carriers_requested")),
        ("Carriers realised", ", ".join(f"{k}: {v}" for k, v in realised.items()) if realised else ""),
        ("Net formal charge", text("net_charge_e", "e")),
        ("Volume before the dynamics", text("volume_A3", "Å³")),
        ("Mobile ion", text("mobile")),
        ("Band gap given", text("gap_eV", "eV", 3)),
        ("Conductivity known at 300 K", f"{sigma} ({source})" if sigma and source else sigma),
        ("Tags", ", ".join(map(str, tags)) if isinstance(tags, list) else str(tags)),
        ("Structure", structure.get("reason") or ""),
    ]


def _ranking(row: dict) -> str:
    parts = [f"rank {row['rank']}" if known(row["rank"]) else "", row["rank_note"]]
    return ": ".join(part for part in parts if known(part) and part)


class _Runs:
    """The runs of one candidate; every method gives one text a temperature."""

    def __init__(self, runs: list[tuple[dict, dict]]):
        self._rows = [row for row, _ in runs]
        self._summaries = [summary for _, summary in runs]

    def parts(self, part: str) -> list[dict]:
        return [summary.get(part) or {} for summary in self._summaries]

    def column(self, make: Callable[[dict], str]) -> list[str]:
        return [make(row) for row in self._rows]

    def value(self, part: str, key: str, digits: int = 3) -> list[str]:
        found = [values.get(key) for values in self.parts(part)]
        return [x if isinstance(x, str) else number(x, digits) for x in found]

    def joined(self, part: str, *keys: str) -> list[str]:
        """Values of one line put together; a dash where all are missing."""
        texts = zip(*(self.value(part, key, 4) for key in keys), strict=True)
        return ["–" if set(these) == {"–"} else "; ".join(these) for these in texts]

    def bounded(self, name: str, ends: str) -> list[str]:
        return self.column(lambda row: with_interval(row[name], row[f"{ends}_low"], row[f"{ends}_high"]))

    def window(self, edge: float) -> list[str]:
        windows = [values.get("windows") or [] for values in self.parts("marker")]
        found = [next((w for w in these if w["nu2_cm"] == edge), {}) for these in windows]
        return [with_interval(w.get("I_A3"), w.get("I_A3_low"), w.get("I_A3_high")) for w in found]

    def edges(self) -> list[float]:
        """Upper edges of all windows, cm^-1."""
        windows = [window for values in self.parts("marker") for window in values.get("windows") or []]
        return sorted({window["nu2_cm"] for window in windows})

    def interval(self, name: str) -> list[str]:
        found = self.parts("transport")
        return [
            with_interval(x.get(f"{name}_mS_cm"), x.get(f"{name}_low"), x.get(f"{name}_high")) for x in found
        ]

    def members(self) -> list[str]:
        found = [values.get("I_low_members") or [] for values in self.parts("marker")]
        return [", ".join(number(x) for x in these) if len(these) > 1 else "–" for these in found]

    def equilibration(self) -> list[str]:
        """Length of NPT and whether the mean cell had settled."""
        said = {True: "; cell settled", False: "; cell not settled"}
        return [
            number(values.get("npt_ps")) + said.get(values.get("npt_settled"), "")
            for values in self.parts("dynamics")
        ]

    def replica_temperatures(self) -> list[str]:
        found = [values.get("temperature_replicas_K") or [] for values in self.parts("dynamics")]
        return [f"{min(these):.0f} to {max(these):.0f}" if these else "–" for these in found]

    def haven(self) -> list[str]:
        """Haven ratio with the error of D_sigma, which is by far the larger one."""
        found = [(x.get("haven_ratio"), x.get("D_sigma_relative_error")) for x in self.parts("transport")]
        return [
            f"{ratio:.2g} ± {ratio * error:.1g}" if known(ratio) and known(error) else number(ratio, 2)
            for ratio, error in found
        ]

    def model(self, sources: list[dict], kind: str) -> list[str]:
        names = [source.get(f"{kind}_model") for source in sources]
        hashes = [(source.get(f"{kind}_model_sha256") or "no hash")[:12] for source in sources]
        return [f"{name}, {short}" if name else "–" for name, short in zip(names, hashes, strict=True)]

    def lines(self, confidence: float) -> list[tuple[str, list[str]]]:
        """Label and texts of each line of a candidate's table."""
        interval = f" ({100 * confidence:g} % interval)"
        cells = [cell_lengths(values.get("mean_cell_A")) for values in self.parts("dynamics")]
        return [
            ("Status", self.column(lambda row: row["status"])),
            ("Reason", self.column(lambda row: row["reason"] if known(row["reason"]) else "")),
            ("Ranking", self.column(_ranking)),
            ("Warnings", self.column(lambda row: row["notes"] if known(row.get("notes")) else "")),
            ("Verdict", self.column(lambda row: row["verdict"] if known(row["verdict"]) else "–")),
            (f"D, cm²/s{interval}", self.column(diffusivity)),
            ("Why this verdict", self.value("transport", "reason")),
            ("Interval of D from", self.value("transport", "interval_from")),
            ("Net jumps; ions that jumped", self.joined("transport", "jumps", "ions_jumped")),
            ("Slope of ln MSD against ln t", self.value("transport", "log_slope")),
            (f"Conductivity if ions move independently, mS/cm{interval}", self.interval("sigma_NE")),
            ("Haven ratio, one standard error", self.haven()),
            ("Window from, cm⁻¹", self.value("marker", "nu1_cm")),
            (f"I_low, Å³{interval}", self.bounded("I_low_A3", "I_low")),
            *((f"I up to {edge:g} cm⁻¹, Å³{interval}", self.window(edge)) for edge in self.edges()),
            (f"R_low{interval}", self.bounded("R_low", "R_low")),
            (f"r_low{interval}", self.bounded("r_low", "r_low")),
            (f"chi_low, Å³ cm{interval}", self.bounded("chi_low", "chi_low")),
            ("I_low of each member of the polarizability model, Å³", self.members()),
            ("Flat floor, share of I_low", self.value("marker", "floor_share", 2)),
            ("Unit of the intervals", self.value("marker", "unit")),
            ("Segments; their length, ps", self.joined("marker", "n_segments", "segment_ps")),
            ("Resolution, cm⁻¹", self.value("marker", "resolution_cm", 2)),
            ("Replicas; length of each, ps", self.joined("dynamics", "replicas", "production_ps")),
            ("NPT, ps", self.equilibration()),
            ("Time step; sampling, fs", self.joined("dynamics", "timestep_fs", "sampling_fs")),
            ("Steps", self.column(lambda row: f"{row['steps']:,}" if known(row["steps"]) else "–")),
            ("Mean temperature, K", self.value("dynamics", "mean_temperature_K", 4)),
            ("Mean temperature of single replicas, K", self.replica_temperatures()),
            ("Energy drift, meV/atom", self.value("dynamics", "drift_meV_atom", 2)),
            ("Mean cell, Å; °", cells),
            ("Volume, Å³", self.value("dynamics", "volume_A3", 5)),
            ("Force field", self.model(self.parts("dynamics"), "force")),
            ("Polarizability model", self.model(self._summaries, "alpha")),
            ("Device; seed", self.joined("dynamics", "device", "seed")),
        ]

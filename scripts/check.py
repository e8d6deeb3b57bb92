"""What a launch would do, whether it can, how long its jobs take and whether the budget holds them; computes nothing.

--probe first runs one job of real steps on the device where the jobs of the profile run, and uses its speeds.
"""

import csv
import re
import shutil
import subprocess
import sys
import uuid
from collections import Counter
from pathlib import Path

from arguments import limit_threads, write_json
from ionraman.trajectory import read_json
from selection import command_parser, configured, launch_arguments

limit_threads(1)
parser = command_parser(__doc__)
parser.add_argument(
    "--profile", default="profiles/local", help="where the jobs run (default: profiles/local)"
)
parser.add_argument("--probe", action="store_true", help="measure on the device, about a minute")
parser.add_argument("--seconds", type=float, default=60, help="length of the probe (default: 60)")


def snakemake(arguments, *more: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "snakemake", *launch_arguments(arguments), *more]
    return subprocess.run(command, capture_output=True, text=True)


def probe(arguments, campaign) -> None:
    """Run the rule `probe` and tell what it found."""
    from ionraman.structures import StructureInvalid, build

    for candidate in campaign.candidates:
        options = {
            k: campaign.setting(candidate.name, f"structure.{k}")
            for k in type(campaign.settings.structure).model_fields
        }
        try:
            file = campaign.structure_file(candidate.name)
            atoms = build(file, mobile=candidate.mobile, carriers=candidate.carriers, **options).atoms
            break
        except StructureInvalid:
            continue
    else:
        raise SystemExit("No candidate can be built: there is nothing to probe with.")
    folder, token = campaign.folder, uuid.uuid4().hex
    folder.mkdir(parents=True, exist_ok=True)
    request = {
        "token": token, "seconds": arguments.seconds, "candidate": candidate.name,
        "numbers": atoms.numbers.tolist(), "positions_A": atoms.positions.tolist(), "cell_A": atoms.cell.array.tolist(),
        "temperature_K": campaign.settings.reference_temperature_K,
        "replicas": campaign.settings.dynamics.replicas, "pack_size": campaign.settings.compute.pack_size,
    }  # fmt: skip
    write_json(folder / "probe.request.json", request)
    (folder / "probe.json").unlink(missing_ok=True)
    print(f"Probe: one job of about {arguments.seconds:g} s with {arguments.profile} ...", flush=True)
    done = snakemake(arguments, f"{folder}/probe.json", "--force", "--nolock")
    result = folder / "probe.json"
    if done.returncode or not result.exists():
        log = folder / "logs/probe.log"
        text = log.read_text(errors="replace") if log.exists() else ""
        raise SystemExit(
            f"The probe failed. Its log ({log}):\n{text[-3000:]}\nSnakemake:\n{(done.stdout + done.stderr)[-1500:]}"
        )
    found = read_json(result)
    print(
        f"  host {found['host']}, {found['hardware']}; driver: {found['driver']}; torch {found['torch']}, CUDA build {found['cuda_build']}"
    )
    print(
        f"  shared folder: {'seen' if found['token'] == token else 'NOT the one of this machine'}, written at {found['write_MB_s']:.0f} MB/s"
    )
    for stage, rows in found["speeds"].items():
        unit = "evaluations" if stage == "alpha" else "steps"
        print(
            f"  {stage}: "
            + ", ".join(f"{1 / seconds:.3g} {unit}/s of {atoms} atoms" for atoms, seconds in rows)
        )


def jobs(arguments) -> str:
    """Jobs of a launch, as Snakemake's dry run counts them."""
    done = snakemake(arguments, "-n")
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    table = re.search(r"Job stats:\n.*\n-.*\n((?:.+\n)+)", done.stdout + done.stderr)
    if table is None:
        return "none: everything is finished"
    counts = {rule: int(count) for rule, count in (line.split()[:2] for line in table.group(1).splitlines())}
    total = counts.pop("total", sum(counts.values())) - counts.pop("all", 0)
    return f"{total} ({', '.join(f'{rule} {count}' for rule, count in counts.items())})"


def main() -> int:
    from ionraman.survey import model_elements, over_budget, survey

    arguments = parser.parse_args()
    campaign = configured(arguments)
    if arguments.probe:
        probe(arguments, campaign)
    found = survey(campaign, Path.cwd())
    print(
        f"{campaign.folder}: {len(campaign.candidates)} candidates, {len(found.rows)} runs in {len(found.hours)} packs"
    )
    for kind, entry in campaign.models.items():
        covers = " ".join(model_elements(Path(entry.path))) or "elements not known before it is loaded"
        print(f"{kind} model: {getattr(campaign.settings.models, kind)} ({entry.path}): {covers}")

    columns = ["candidate", "temperature_K", "pack", "atoms", "image_A", "job_h", "disk_MB", "note"]
    table = [
        [row.run[0], f"{row.run[1]:g}", row.pack, row.atoms or "", f"{row.image_A:.1f}" if row.image_A else "",
         "" if found.hours[row.pack] is None else f"{found.hours[row.pack]:.3g}", f"{row.bytes / 1e6:.1f}", row.note]
        for row in found.rows
    ]  # fmt: skip
    file = campaign.folder / "check.csv"
    with open(file, "w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([columns, *table])
    shown = table if len(table) <= 40 else [row for row in table if row[-1]][:40]
    widths = [max(len(str(row[k])) for row in [columns, *shown]) for k in range(len(columns))]
    for row in [columns, *shown]:
        print("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    if len(shown) < len(table):
        print(f"({len(table)} rows in {file}; above, those with a note)")

    out = Counter(row.note.partition(":")[0] for row in found.rows if not row.computed)
    if out:
        print("Will not run: " + ", ".join(f"{count} {why}" for why, count in out.items()) + ".")
    if found.speeds is None and any(row.computed for row in found.rows):
        print(
            f"Time: not known, {campaign.settings.models.force!r} was not measured on {found.device}: scripts/campaign check --probe."
        )
    else:
        longest = max(found.hours, key=found.hours.get)
        spent = sum(found.spent_h.values())
        print(
            f"Time on {found.device}: longest pack {longest} {found.hours[longest]:.3g} h (dynamics and polarizability); whole "
            f"campaign {found.total_h:.3g} GPU hours{' (on a CPU: of a job)' if found.device == 'cpu' else ''}, of which finished "
            f"{spent:.3g} h, measured. From {found.speeds.source if found.speeds else 'nothing'}."
        )
    disk = sum(path.stat().st_size for path in campaign.folder.rglob("*") if path.is_file())
    free = shutil.disk_usage(campaign.folder).free
    print(
        f"Disk: {found.bytes / 1e9:.3g} GB when finished, {disk / 1e9:.3g} GB there now, {free / 1e9:.3g} GB free."
    )
    print(f"Jobs: {jobs(arguments)}")
    problems = over_budget(campaign, found)
    if found.bytes - disk > free:
        problems.append(
            f"The disk is too small: {(found.bytes - disk) / 1e9:.3g} GB are still to be written."
        )
    if not any(row.computed for row in found.rows):
        problems.append("No run can be computed.")
    print("\n".join(problems) or "Nothing speaks against a launch.")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())

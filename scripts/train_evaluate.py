"""Models of a generation as model folders, and their errors on held-out frames."""

from pathlib import Path

from arguments import limit_threads, read_frames, read_json, settings, training_parser, write_json

parser = training_parser(__doc__)
parser.add_argument("--generation", type=int, required=True)
parser.add_argument("--seals", nargs="+", type=Path, required=True, help="of the last pieces of all fits")
parser.add_argument("--compute", nargs="+", required=True)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])

import torch
from ionraman import potentials
from ionraman.training import evaluation, fits
from ionraman.training import polarizability as dielectric
from ionraman.training.export import export_force_field
from ionraman.training.record import read_record

torch.set_num_threads(compute["threads"])
training = read_record(arguments.folder).training
output = arguments.folder / f"g{arguments.generation}"
device = str(potentials.select_device(compute["device"]))
report = {"generation": arguments.generation, "models": {}, "errors": {}, "fits": []}
for kind in training.kinds:
    frames = read_frames(output / f"{kind}.extxyz")
    held = [atoms for atoms in frames if atoms.info["split"] == "test"]
    fitted = sum(atoms.info["split"] in ("train", "valid") for atoms in frames)
    members: list[tuple[float, int, Path]] = []
    for seal in arguments.seals:
        # KIND-SHARE-MEMBER.pPIECE.json
        name, share, member = seal.name.split(".p")[0].split("-")
        if name == kind:
            members.append((float(share), int(member), Path(read_json(seal)["model"])))
    for share, member, file in sorted(members):
        if kind == "force":
            folder = output / "models" / f"force-{share:g}-{member}"
            module = torch.load(file, map_location="cpu", weights_only=False)
            export_force_field(module.to(getattr(torch, training.force.dtype)), folder, {})
            calculator = potentials.load(folder).calculator(device, training.force.dtype)
            errors = evaluation.force_errors(calculator, held)
            if share == 1:
                report["models"].setdefault("force", []).append(str(folder))
        else:
            errors = evaluation.alpha_errors(
                evaluation.ensemble([file], training.alpha, device), held, frames
            )
        report["fits"].append(
            {
                "kind": kind,
                "share": share,
                "member": member,
                "labels": round(share * fitted),
                "errors": errors,
            }
        )
    whole = [file for share, _, file in sorted(members) if share == 1]
    if kind == "force":
        report["errors"]["force"] = next(
            fit["errors"] for fit in report["fits"] if fit["kind"] == "force" and fit["share"] == 1
        )
    else:
        modules, numbers, standard, density = fits.load_members(whole, training.alpha)
        folder = output / "models" / "alpha"
        dielectric.export(folder, modules, numbers, fits.architecture(training.alpha), standard, density, {})
        model = evaluation.ensemble(whole, training.alpha, device)
        report["errors"]["alpha"] = evaluation.alpha_errors(model, held, frames)
        ions, modes = ([atoms for atoms in frames if atoms.info["split"] == split] for split in ("ion", "mode"))
        report["ions"] = evaluation.ion_response(model, ions)
        report["modes"] = evaluation.mode_response(model, modes)
        report["models"]["alpha"] = str(folder)
write_json(output / "errors.json", report)

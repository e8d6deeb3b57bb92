"""Molecular dynamics of the members of one pack, from the last checkpoint if there is one."""

import signal
from pathlib import Path

from arguments import (
    Attempt,
    Lease,
    limit_threads,
    pack_parser,
    read_json,
    run_folder,
    run_pack,
    settings,
    write_json,
)

parser = pack_parser(__doc__)
parser.add_argument("output", type=Path)
arguments = parser.parse_args()
compute = settings(arguments.compute)
limit_threads(compute["threads"])
pack = arguments.output.name.split(".")[0]
stopped = []
signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))


def main(lease: Lease, attempt: Attempt) -> None:
    import numpy as np
    import torch
    from ase import Atoms
    from ionraman import memory, potentials
    from ionraman.attempts import keep
    from ionraman.batches import Batch, assign, carry_through, divide
    from ionraman.dynamics import Engine
    from ionraman.protocol import Member, Protocol
    from ionraman.refusals import refusal

    torch.set_num_threads(compute["threads"])
    device = potentials.select_device(compute["device"])
    potential = potentials.load(arguments.model, arguments.sha256)
    protocol = Protocol(**settings(arguments.settings))
    records, members = {}, []
    for name, temperature in arguments.members:
        structure = read_json(arguments.folder / "structures" / name / "structure.json")
        key = f"{name}:{temperature:g}"
        if refused := refusal(structure, protocol.timestep_fs, potential.elements):
            records[key] = refused
            continue
        cell = structure["atoms"]
        atoms = Atoms(cell["numbers"], cell["positions_A"], cell=cell["cell_A"], pbc=True)
        folder = run_folder(arguments.folder, (name, temperature))
        rotations = np.array(structure["point_group"])
        members.append(Member(name, temperature, atoms, structure["mobile"], folder, rotations))
    shared = {
        "timestep_fs": protocol.timestep_fs,
        "sampling_fs": protocol.sampling_fs,
        "replicas": protocol.replicas,
        "seed": protocol.seed,
        "force_model": arguments.model.name,
        "force_model_sha256": potential.sha256,
        "device": str(device),
    }

    def should_stop() -> bool:
        lease.check()
        return bool(stopped)

    def saved(steps: int) -> None:
        if attempt.steps_end is None:
            attempt.steps_start = before + steps
            keep(pack_folder, attempt)
        attempt.steps_end = before + steps

    pack_folder = arguments.folder / "packs" / pack
    before, dtype = 0, getattr(torch, compute["dtype"])
    finished, batches = assign(members, protocol, potential.sha256, pack_folder)
    records |= {key: shared | record for key, record in finished.items()}

    def integrate(batch: Batch) -> list[dict]:
        nonlocal before
        engine = Engine(batch.members, protocol, potential, batch.folder, device, dtype, should_stop, saved)
        found = [shared | record for record in engine.run()]
        before = attempt.steps_end or before
        return found

    if device.type == "cuda":
        model, whole = potential.torchsim(device, dtype, stress=False), batches
        batches = []
        for batch in whole:
            cells = [member.atoms for member in batch.members]
            batches += divide(batch, memory.groups(cells, protocol.replicas, model, device, dtype), pack_folder)
        del model  # and the neighbour list of the largest batch that was tried
    records |= carry_through(batches, pack_folder, integrate)
    write_json(arguments.output, records)


run_pack(main, arguments, pack, "dynamics")

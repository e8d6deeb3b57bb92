"""What only a GPU can show: `scripts/test gpu`, on a machine that has one."""

import gc

import numpy as np
import pytest
import torch
import torch_sim as ts
from ase.build import bulk
from ionraman import memory
from ionraman.attempts import Stopped
from ionraman.batches import assign, carry_through
from ionraman.dynamics import Engine
from ionraman.polarizability import load
from ionraman.protocol import Member, Protocol
from ionraman.trajectory import trajectory_store

GPU, CPU = torch.device("cuda"), torch.device("cpu")
PROTOCOL = Protocol(
    relax_steps=5, npt_ps=0.04, npt_limit_ps=0.04, nvt_ps=0.2, production_ps=0.2, replicas=2, checkpoint_ps=0.05
)  # fmt: skip


def crystal(times=(2, 2, 2)):
    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True).repeat(times)
    atoms.rattle(0.05, seed=3)
    return atoms


@pytest.fixture
def limited():
    """Limit the memory of torch to so many bytes beyond what is taken now."""

    def limit(size: int) -> None:
        gc.collect()
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(GPU).total_memory
        torch.cuda.set_per_process_memory_fraction((torch.cuda.memory_allocated() + size) / total)

    yield limit
    torch.cuda.set_per_process_memory_fraction(1.0)


def peak(program) -> int:
    """Bytes that a program takes at most beyond what is taken now."""
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    program()
    return torch.cuda.max_memory_allocated() - before


def test_forces_and_polarizabilities_are_those_of_a_cpu(force_model, root):
    values = []
    for device in (CPU, GPU):
        model = force_model.torchsim(device, torch.float32, stress=True)
        found = model(ts.initialize_state([crystal()], device, torch.float32))
        values.append({key: found[key].cpu() for key in ("energy", "forces", "stress")})
    assert torch.allclose(values[0]["forces"], values[1]["forces"], atol=2e-4)
    assert torch.allclose(values[0]["stress"], values[1]["stress"], atol=2e-5)
    assert abs(values[0]["energy"] - values[1]["energy"]).item() < 1e-5 * len(crystal())
    alpha = [load(root / "workflow/models/alpha-small", device).predict([crystal()]) for device in (CPU, GPU)]
    assert np.allclose(alpha[0], alpha[1], rtol=1e-4, atol=1e-3)


def test_members_are_grouped_by_what_fits(force_model, limited):
    cells, replicas = [crystal((2, 2, n)) for n in (1, 2, 3, 4)], 40
    model = force_model.torchsim(GPU, torch.float32, stress=False)
    assert memory.groups(cells, replicas, model, GPU, torch.float32) == [[0, 1, 2, 3]]
    state = ts.initialize_state(cells * replicas, GPU, torch.float32)
    model(state)
    limited(peak(lambda: model(state)) // 2)
    found = memory.groups(cells, replicas, model, GPU, torch.float32)
    assert len(found) > 1 and sorted(sum(found, [])) == [0, 1, 2, 3]
    for group in found:
        own = ts.initialize_state([cells[k] for k in group] * replicas, GPU, torch.float32)
        model(own)  # does not raise


def test_a_batch_that_does_not_fit_goes_on_in_halves(force_model, tmp_path, limited):
    members = [Member(name, 600.0, crystal((2, 2, 3)), "Na", tmp_path / name) for name in "abcd"]
    _, batches = assign(members, PROTOCOL, force_model.sha256, tmp_path)
    whole = ts.initialize_state([member.atoms for member in members] * 2, GPU, torch.float32)
    model = force_model.torchsim(GPU, torch.float32, stress=False)
    model(whole)
    limited(int(0.8 * peak(lambda: model(whole))))
    sizes = []

    def integrate(batch):
        records = Engine(batch.members, PROTOCOL, force_model, batch.folder, GPU).run()
        sizes.append(len(batch.members))
        return records

    records = carry_through(batches, tmp_path, integrate)
    assert sum(sizes) == 4 and max(sizes) < 4
    assert {record["status"] for record in records.values()} == {"complete"}


def test_a_stopped_run_goes_on(force_model, tmp_path):
    members = [Member(name, 600.0, crystal(), "Na", tmp_path / name) for name in "ab"]
    steps = iter(range(10_000))
    with pytest.raises(Stopped):
        Engine(members, PROTOCOL, force_model, tmp_path, GPU, should_stop=lambda: next(steps) > 160).run()
    engine = Engine(members, PROTOCOL, force_model, tmp_path, GPU)
    records = engine.run()
    assert engine.resumed_step > 100 and {record["status"] for record in records} == {"complete"}
    assert all(trajectory_store(tmp_path / name).frames() == 20 for name in "ab")

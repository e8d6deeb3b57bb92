"""The engine on 8 atoms of rock salt: resume bit for bit, extend, lose a member, notice another physics."""

import numpy as np
import pytest
import torch
from ase.build import bulk
from ionraman import guards
from ionraman.dynamics import Engine, Stopped
from ionraman.protocol import Member, Protocol, digest

SHORT = Protocol(
    relax_steps=20,
    npt_ps=0.08,
    npt_limit_ps=0.08,
    nvt_ps=0.2,
    production_ps=0.2,
    replicas=2,
    checkpoint_ps=0.06,
)


def member(folder, name="NaCl", temperature=600.0, edge=5.7):
    return Member(name, temperature, bulk("NaCl", "rocksalt", edge, cubic=True), "Na", folder / name)


def engine(folder, model, protocol=SHORT, members=None, should_stop=lambda: False):
    members = members or [member(folder)]
    return Engine(members, protocol, model, folder, torch.device("cpu"), should_stop=should_stop)


@pytest.fixture(scope="module")
def finished(force_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run = engine(folder, force_model)
    records = run.run()
    return folder, records, run.stores[0].read()[0]


def test_record_of_a_finished_run(finished):
    _, records, arrays = finished
    assert records[0]["status"] == "complete"
    assert arrays["positions_A"].shape == (2, 20, 8, 3)
    assert records[0]["steps"] == 20 * 5 * 2
    assert records[0]["drift_meV_atom"] < 1
    assert 50 < records[0]["highest_line_cm"] < 900  # 0.2 ps blur the upper edge


def test_a_run_stopped_again_and_again_is_bit_for_bit_the_same(finished, force_model, tmp_path):
    stops = 0
    while True:
        steps = iter(range(47))
        try:
            run = engine(tmp_path, force_model, should_stop=lambda: next(steps, None) is None)
            records = run.run()
            break
        except Stopped:
            stops += 1
    assert stops >= 4
    again = run.stores[0].read()[0]
    for key, array in finished[2].items():
        assert np.array_equal(array, again[key]), key
    timeless = [{k: v for k, v in r.items() if k != "seconds"} for r in (finished[1][0], records[0])]
    assert timeless[0] == timeless[1]


def test_a_checkpoint_of_a_gpu_goes_on_on_a_cpu(force_model, tmp_path):
    steps = iter(range(60))
    with pytest.raises(Stopped):
        engine(tmp_path, force_model, should_stop=lambda: next(steps, None) is None).run()
    file = tmp_path / "checkpoint.pt"
    stored = torch.load(file, weights_only=True)
    torch.save(stored | {"generator": torch.arange(16, dtype=torch.uint8)}, file)  # a GPU's has 16 bytes
    run = engine(tmp_path, force_model)
    assert run.run()[0]["status"] == "complete"
    assert run.resumed_step > 0


def test_lengthening_computes_the_new_frames_only(force_model, tmp_path):
    engine(tmp_path, force_model, Protocol(**vars(SHORT) | {"production_ps": 0.1})).run()
    before = {
        path: path.stat().st_mtime_ns for path in (tmp_path / "NaCl/trajectory").glob("production_*.npz")
    }
    run = engine(tmp_path, force_model)
    run.run()
    assert run.stores[0].frames() == 20
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())
    assert run.resumed_step == SHORT.steps(0.08) + SHORT.steps(0.2) + SHORT.steps(0.1)


def test_a_lengthened_run_is_the_long_run(finished, force_model, tmp_path):
    engine(tmp_path, force_model, Protocol(**vars(SHORT) | {"production_ps": 0.1})).run()
    run = engine(tmp_path, force_model)
    run.run()
    assert np.array_equal(run.stores[0].read()[0]["positions_A"], finished[2]["positions_A"])


def test_a_finished_run_computes_nothing(finished, force_model):
    folder, records, _ = finished
    run = engine(folder, force_model)
    assert run.run()[0]["frames"] == records[0]["frames"]
    assert run.resumed_step == run._done_steps()


def test_what_decides_the_physics_is_in_the_digest(tmp_path):
    one = member(tmp_path)
    reference = digest(one, SHORT, "sha")
    for key in ("timestep_fs", "sampling_fs", "npt_ps", "replicas", "seed", "thermostat_tau_ps"):
        changed = Protocol(**vars(SHORT) | {key: getattr(SHORT, key) * 2})
        assert digest(one, changed, "sha") != reference, key
    assert digest(member(tmp_path, temperature=700.0), SHORT, "sha") != reference
    assert digest(member(tmp_path, edge=5.71), SHORT, "sha") != reference
    assert digest(one, SHORT, "other") != reference
    for key in ("production_ps", "checkpoint_ps"):
        assert digest(one, Protocol(**vars(SHORT) | {key: 9.0}), "sha") == reference, key


def test_another_seed_starts_anew(finished, force_model, tmp_path):
    engine(tmp_path, force_model).run()
    run = engine(tmp_path, force_model, Protocol(**vars(SHORT) | {"seed": 2}))
    run.run()
    assert run.resumed_step == 0
    assert not np.array_equal(run.stores[0].read()[0]["positions_A"], finished[2]["positions_A"])


def test_a_damaged_checkpoint_starts_anew_and_is_kept(force_model, tmp_path):
    engine(tmp_path, force_model).run()
    (tmp_path / "checkpoint.pt").write_bytes(b"half a checkpoint")
    run = engine(tmp_path, force_model)
    assert run.run()[0]["status"] == "complete"
    assert (tmp_path / "checkpoint.damaged").read_bytes() == b"half a checkpoint"


def test_a_member_that_blows_up_leaves_the_others(force_model, tmp_path, monkeypatch):
    """The guard is told that the first system left the range: its member ends, the other goes on to the end."""
    calls = []

    def fake(state, *_):
        calls.append(state.n_systems)
        return {1: "the energy became NaN"} if len(calls) == 3 else {}

    monkeypatch.setattr(guards, "blown_up", fake)
    members = [member(tmp_path, "bad"), member(tmp_path, "good")]
    records = engine(tmp_path, force_model, members=members).run()
    assert records[0]["status"] == "unstable" and "NaN" in records[0]["reason"]
    assert records[1]["status"] == "complete"
    assert calls[0] == 2 and calls[-1] == 2


def _state(force_model, positions_scale=1.0, temperature=600.0):
    import torch_sim as ts
    from ionraman.units import KB_EV
    from torch_sim.integrators.nve import nve_init

    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    atoms.positions[1] = atoms.positions[0] + positions_scale * (atoms.positions[1] - atoms.positions[0])
    state = ts.initialize_state([atoms], torch.device("cpu"), torch.float32)
    state.rng = 1
    return nve_init(
        state,
        force_model.torchsim(torch.device("cpu"), torch.float32, False),
        kT=torch.tensor(KB_EV * temperature),
    )


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda state, hot: state, None),
        (lambda state, hot: setattr(state, "energy", state.energy * torch.nan), "NaN"),
        (lambda state, hot: hot.fill_(1900.0), "1900 K"),
    ],
)
def test_guards(force_model, spoil, words):
    from ionraman.neighbours import library_list

    state, hot = _state(force_model), torch.tensor([600.0])
    spoil(state, hot)
    reasons = guards.blown_up(state, torch.tensor([600.0]), hot, library_list(torch.device("cpu")))
    assert (words in reasons[0]) if words else not reasons


def test_guard_of_distances(force_model):
    from ionraman.neighbours import library_list

    neighbours, temperature = library_list(torch.device("cpu")), torch.tensor([600.0])
    close = guards.blown_up(_state(force_model, 0.5), temperature, temperature, neighbours)
    assert "1.42 A" in close[0] or "1.43 A" in close[0]
    assert not guards.blown_up(_state(force_model, 0.8), temperature, temperature, neighbours)


@pytest.mark.parametrize(("distance", "stops"), [(1.95, True), (2.1, False)])
def test_two_alkali_ions_may_come_closer_than_their_metallic_radii_say(force_model, distance, stops):
    from ionraman.neighbours import library_list

    state, temperature = _state(force_model), torch.tensor([600.0])
    sodium = torch.nonzero(state.atomic_numbers == 11).flatten()
    state.positions[sodium[1]] = state.positions[sodium[0]] + torch.tensor([distance, 0.0, 0.0])
    far = torch.nonzero(state.atomic_numbers != 11).flatten()
    state.positions[far, 0] += 0.5  # no anion in the way
    reasons = guards.blown_up(state, temperature, temperature, library_list(torch.device("cpu")))
    assert ("0.6 of the sum" in reasons.get(0, "")) == stops


def test_replicas_start_from_frames_of_their_own_and_the_cell_keeps_the_symmetry(force_model, tmp_path):
    protocol = Protocol(**vars(SHORT) | {"npt_ps": 0.4, "npt_limit_ps": 0.4, "replicas": 4})
    atoms = bulk("NaCl", "rocksalt", 5.7, cubic=True)
    signs = np.array([np.diag(d) for d in ([1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1])], float)
    turns = np.array([np.eye(3)[[0, 1, 2]], np.eye(3)[[1, 2, 0]], np.eye(3)[[2, 0, 1]]])
    rotations = np.array([sign @ turn for sign in signs for turn in turns])
    run = engine(
        tmp_path, force_model, protocol, [Member("salt", 900.0, atoms, "Na", tmp_path / "salt", rotations)]
    )
    kept = []
    start = run._start_nvt
    run._start_nvt = lambda settled: (kept.extend(run.progress.starts), start(settled))
    record = run.run()[0]
    assert len(kept) == 4
    distances = [np.abs(a - b).max() for k, a in enumerate(kept) for b in kept[:k]]
    assert min(distances) > 1e-3
    cell = np.array(record["mean_cell_A"])
    np.testing.assert_allclose(cell, np.eye(3) * record["volume_A3"] ** (1 / 3), atol=1e-5)


def test_a_line_too_high_for_the_sampling_ends_the_member_before_its_polarizability(
    force_model, tmp_path, monkeypatch
):
    from ionraman import raman

    lines = iter([3316.0, 300.0])
    monkeypatch.setattr(raman, "highest_line_cm", lambda *_: next(lines))
    members = [member(tmp_path, "stiff"), member(tmp_path, "soft")]
    records = engine(tmp_path, force_model, members=members).run()
    assert records[0]["status"] == "invalid" and "3316 cm^-1" in records[0]["reason"]
    assert records[1]["status"] == "complete"


def test_batches_share_no_noise(force_model, tmp_path):
    one, two = (
        engine(tmp_path, force_model),
        engine(tmp_path, force_model, members=[member(tmp_path, edge=5.8)]),
    )
    assert one._seed() != two._seed()
    assert one._seed() == engine(tmp_path, force_model)._seed()


@pytest.mark.parametrize("damaged", ["checkpoint", "last segment", "first segment"])
def test_damage_is_repaired_bit_for_bit(finished, force_model, tmp_path, damaged):
    engine(tmp_path, force_model).run()
    files = sorted((tmp_path / "NaCl/trajectory").glob("production_*.npz"))
    file = {"checkpoint": tmp_path / "checkpoint.pt", "last segment": files[-1], "first segment": files[0]}[
        damaged
    ]
    file.write_bytes(file.read_bytes()[:-50])
    run = engine(tmp_path, force_model)
    record = run.run()[0]
    again = run.stores[0].read()[0]
    assert record["status"] == "complete"
    for key, array in finished[2].items():
        assert np.array_equal(array, again[key]), key
    start = SHORT.steps(0.08) + SHORT.steps(0.2)
    assert (
        run.resumed_step == start
        if damaged == "first segment"
        else run.resumed_step >= start + SHORT.steps(0.12)
    )


def test_a_stop_in_the_relaxation_ends_it(force_model, tmp_path):
    with pytest.raises(Stopped, match="relaxation"):
        engine(tmp_path, force_model, should_stop=lambda: True).run()

"""Transport: unwrapping, drift, MSD, sites, net jumps and verdicts on trajectories with known answers."""

import json

import numpy as np
import pytest
from ionraman import slopes
from ionraman.displacements import mobile_paths, msd_tensor
from ionraman.jumps import NetJumps, PeriodicSites, find_sites, net_jumps
from ionraman.slopes import choose_interval, replica_interval
from ionraman.transport import Diffusion, _objection, diffusion, jump_interval
from scipy.stats import t as student_t

STEP = 0.1  # ps between frames
CUBE = np.array([[i, j, k] for i in range(3) for j in range(3) for k in range(3)], float)


def vibrating(paths, seed: int, amplitude: float = 0.25, host: int = 20) -> tuple[np.ndarray, list[str]]:
    """Add white vibration and a host of S atoms at random places to (replicas, frames, ions, 3)."""
    rng = np.random.default_rng(seed)
    shape = (*paths.shape[:2], host, 3)
    frame = np.broadcast_to(rng.uniform(0, 12, (host, 3)), shape)
    positions = np.concatenate([paths, frame], 2)
    positions = positions + rng.normal(0, amplitude, positions.shape)
    return positions.astype(np.float32), ["Na"] * paths.shape[2] + ["S"] * host


def walkers(seed: int, replicas: int, frames: int, rate_per_ps: float, spacing: float = 4.0) -> np.ndarray:
    """27 independent walkers on a simple cubic lattice, (replicas, frames, 27, 3)."""
    rng = np.random.default_rng(seed)
    jump = rng.random((replicas, frames, 27, 1)) < rate_per_ps * STEP
    axis = np.eye(3)[rng.integers(0, 3, (replicas, frames, 27))]
    direction = axis * rng.choice([-1, 1], (replicas, frames, 27, 1))
    return spacing * (CUBE + np.cumsum(jump * direction, 1))


def path_of_one(*stays: tuple[float, float]) -> np.ndarray:
    """One ion on sites along x: (place in A, duration in ps), ..., shape (1, frames, 1, 3)."""
    x = np.concatenate([np.full(round(duration / STEP), place) for place, duration in stays])
    return np.stack([x, 0 * x, 0 * x], -1)[None, :, None]


def test_msd_by_fft_is_the_direct_average():
    x = np.cumsum(np.random.default_rng(0).normal(size=(60, 4, 3)), 0)
    tensor = msd_tensor(x, 40)
    for lag in (0, 1, 7, 40):
        d = x[lag:] - x[: len(x) - lag]
        direct = np.einsum("tia,tib->ab", d, d) / (d.shape[0] * d.shape[1])
        np.testing.assert_allclose(tensor[lag], direct[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]], atol=1e-9)


@pytest.mark.parametrize("cell", [12 * np.eye(3), [[12, 0, 0], [-6, 10.4, 0], [7, 3, 11]]])
def test_wrapped_drifting_and_displaced_replicas_give_the_same_paths(cell):
    cell = np.array(cell)
    positions, species = vibrating(walkers(1, 2, 200, 0.2), 1, 0.1)
    mobile = np.array(species) == "Na"
    masses = np.where(mobile, 23.0, 32.0)
    expected = mobile_paths(positions, cell, mobile, masses)
    drift = np.linspace(0, 30, 200)[:, None, None] * np.array([0.3, -0.5, 0.8])
    moved = positions + drift
    moved[1] += [1.3, -4.0, 2.2]
    fractional = moved @ np.linalg.inv(cell)
    wrapped = (fractional - np.floor(fractional)) @ cell
    found = mobile_paths(wrapped, cell, mobile, masses)
    # The same up to the lattice vector by which each ion was wrapped in its first frame.
    whole = (found - expected) @ np.linalg.inv(cell)
    np.testing.assert_allclose(whole, np.broadcast_to(np.round(whole[:, :1]), whole.shape), atol=0.02)


@pytest.mark.parametrize("cell, basis", [
    (12 * np.eye(3), CUBE / 3),
    (8.4 * np.eye(3), np.concatenate([b + np.array(c) for b in [CUBE[[0, 1, 3, 4, 9, 10, 12, 13]] / 2]
                                      for c in ([0, 0, 0], [0.25, 0.25, 0.25])])),
    (np.array([[12, 0, 0], [-6, 10.4, 0], [7, 3, 11]]), CUBE / 3),
], ids=["cubic", "bcc", "triclinic"])
def test_sites_are_found_where_ions_vibrate(cell, basis):
    places = np.broadcast_to((basis @ cell)[1:], (2, 400, len(basis) - 1, 3))
    paths = places + np.random.default_rng(2).normal(0, 0.5, places.shape)
    sites = find_sites(paths.astype(np.float32), cell, STEP)
    assert len(sites) == len(basis) - 1
    assert PeriodicSites(sites, cell).nearest((basis @ cell)[1:])[2].max() < 0.1


def test_a_site_reached_by_a_single_jump_is_found():
    paths = np.broadcast_to(4 * CUBE[:26], (1, 1000, 26, 3)).copy()
    paths[0, 900:, 0] = 4 * CUBE[26]
    paths += np.random.default_rng(3).normal(0, 0.3, paths.shape)
    assert len(find_sites(paths, 12 * np.eye(3), STEP)) == 27


@pytest.mark.parametrize("stays, expected", [
    ([(0, 10), (4, 20)], 1),
    ([(0, 10), (4, 0.6), (8, 20)], 1),  # passing through is no stay
    ([(0, 10), (4, 2), (8, 20)], 2),
    ([(0, 10), (4, 4), (0, 20)], 0),  # back within 5 ps
    ([(0, 10), (4, 2), (8, 2), (0, 20)], 0),
    ([(0, 10), (4, 6), (0, 20)], 2),  # back later: one jump there, one back
    ([(0, 10), (4, 0.5), (0, 0.5)] * 3, 0),
    ([(0, 30), (4, 4)], 0),  # not confirmed before the run ends
    ([(0, 10), (12, 20)], 1),  # the image of the own site in the next cell
])
def test_net_jumps_of_one_ion(stays, expected):
    jumps = net_jumps(path_of_one(*stays), 12 * np.eye(3), 4 * CUBE, STEP)
    assert jumps.count == expected
    assert jumps.observed_ps == pytest.approx(sum(s[1] for s in stays) - 5, abs=0.3)


def test_step_of_a_jump_through_the_boundary():
    jumps = net_jumps(path_of_one((8, 10), (12, 10), (20, 10)), 12 * np.eye(3), 4 * CUBE, STEP)
    np.testing.assert_allclose(jumps.displacement_A, [[4, 0, 0], [8, 0, 0]], atol=1e-9)
    np.testing.assert_allclose(jumps.time_ps, [10, 20], atol=0.3)
    assert jumps.squared_step_A2 == pytest.approx((16 + 64) / 2)


def jump_record(replica, ion, time, step=4.0) -> NetJumps:
    n = len(time)
    return NetJumps(4 * CUBE, np.full(27, 4.0), np.array(replica, int), np.array(ion, int),
                    np.array(time, float), np.tile([step, 0, 0], (n, 1)).reshape(n, 3), 95.0)


def test_ions_that_jump_together():
    assert jump_record([], [], []).together == 3
    assert jump_record([0, 0], [1, 2], [5, 9]).together == 1
    assert jump_record([0, 0, 0, 1], [1, 2, 2, 3], [5, 6, 6.5, 6]).together == 2
    assert jump_record([0] * 4, [1, 2, 3, 4], [9, 1, 2.5, 2]).together == 3


def test_interval_from_jumps_is_the_formula():
    # D = s a^2/6X in A^2/ps is 1e-4 cm^2/s: a = 4 A, X = 800 ion ps.
    unit = 16 / (6 * 800) * 1e-4
    low, high = jump_interval(jump_record([], [], []), 800)
    assert low == 0 and high == pytest.approx(3 * unit * 2.9957, rel=1e-4)
    low, high = jump_interval(jump_record([0] * 4, range(4), [0, 10, 20, 30]), 800)
    # chi2_{.025,8}/2 and chi2_{.975,10}/2 from tables: the interval 1.090-10.24 of a Poisson count of 4.
    assert low == pytest.approx(1.090 * unit, rel=1e-3) and high == pytest.approx(10.242 * unit, rel=1e-3)
    low, high = jump_interval(jump_record([0] * 4, range(4), [0, 1, 20, 21]), 800)
    # Two pairs: a count of 2, in units twice as large.
    assert low == pytest.approx(0.2422 * 2 * unit, rel=1e-3)
    assert high == pytest.approx(7.225 * 2 * unit, rel=1e-3)


def test_few_jumps_give_an_interval_and_no_value():
    paths = np.broadcast_to(4 * CUBE[:26], (3, 1000, 26, 3)).copy()
    paths[0, 300:, 25] = 4 * CUBE[26]
    paths[2, 700:, 0, 0] -= 4
    positions, species = vibrating(paths, 4)
    found = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert found.verdict == "few jumps" and found.jumps_per_replica == [1, 0, 1] and found.jumps_together == 1
    assert np.isnan(found.D_cm2_s)
    unit = found.squared_step_A2 / (6 * 26 * 3 * 95) * 1e-4
    assert found.squared_step_A2 == pytest.approx(16, rel=0.03)
    assert found.D_low == pytest.approx(0.2422 * unit, rel=0.01)
    slopes = np.array(found.D_replica_cm2_s)
    upper = slopes.mean() + student_t.ppf(0.95, 2) * slopes.std(ddof=1) / np.sqrt(3)
    assert found.D_high == pytest.approx(max(7.225 * unit, upper), rel=0.01)


def test_diffusing_has_every_field():
    positions, species = vibrating(walkers(5, 4, 800, 0.05), 5)
    state = np.random.get_state()[1].copy()
    found = diffusion(positions, 12 * np.eye(3), species, "Na", STEP, temperature_K=600)
    assert found.verdict == "diffusing", found.reason
    assert found.D_low < found.D_cm2_s < found.D_high
    assert found.D_cm2_s == pytest.approx(0.05 * 16 / 6 * 1e-4, rel=0.5)
    assert np.mean(found.D_eigenvalues_cm2_s) == pytest.approx(found.D_replicas_cm2_s, rel=1e-6)
    # n q^2 D/(kB T) with 27 ions in 1728 A^3: 27/1728e-24 cm^-3 (1.602e-19 C)^2/(1.381e-23 * 600 J).
    assert found.sigma_NE_mS_cm == pytest.approx(4.84e7 * found.D_cm2_s, rel=2e-3)
    assert found.haven_ratio == pytest.approx(found.D_cm2_s / found.D_sigma_cm2_s)
    assert found.kinisi_agrees is not None and found.D_kinisi_low < found.D_kinisi_high
    assert 0.5 < found.correlation_factor < 1.5
    assert (np.random.get_state()[1] == state).all(), "kinisi changed numpy's global random state"
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["verdict"] == "diffusing" and "msd_A2" not in plain
    table = found.msd_table()
    assert list(table) == ["lag_ps", "msd_A2", "msd_se_A2", "msd_0_A2", "msd_1_A2", "msd_2_A2",
                           "msd_3_A2"]
    np.testing.assert_allclose(table.iloc[:, 3:].mean(axis=1), table.msd_A2)
    again = diffusion(positions, 12 * np.eye(3), species, "Na", STEP, temperature_K=600)
    assert again.to_dict() == found.to_dict()


def test_conductivity_holds_the_charge_of_the_mobile_ion(monkeypatch):
    failed = dict.fromkeys(("D_kinisi_cm2_s", "D_kinisi_low", "D_kinisi_high"), np.nan) | {"kinisi_note": "skipped"}
    monkeypatch.setattr("ionraman.transport.kinisi_interval", lambda *_: failed)
    positions, species = vibrating(walkers(5, 4, 800, 0.05), 5)
    for symbol, charge in (("Na", 1), ("Mg", 2), ("Al", 3)):
        named = [symbol if s == "Na" else s for s in species]
        found = diffusion(positions, 12 * np.eye(3), named, symbol, STEP, temperature_K=600)
        assert found.sigma_NE_mS_cm == pytest.approx(charge**2 * 4.84e7 * found.D_cm2_s, rel=2e-3)


def test_drift_of_the_host_changes_nothing():
    positions, species = vibrating(walkers(6, 4, 800, 0.05), 6)
    plain = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    drift = (np.arange(800) * STEP * 0.5)[:, None, None] * np.array([1.0, 0.6, -0.3])
    moved = diffusion(positions + drift.astype(np.float32), 12 * np.eye(3), species, "Na", STEP)
    assert moved.verdict == plain.verdict == "diffusing" and moved.jumps == plain.jumps
    assert moved.D_replicas_cm2_s == pytest.approx(plain.D_replicas_cm2_s, rel=1e-4)
    assert moved.D_cm2_s == pytest.approx(plain.D_cm2_s, rel=1e-2)


def test_undetermined_says_why():
    positions, species = vibrating(walkers(7, 2, 90, 0.05), 7)
    short = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert short.verdict == "undetermined" and "too short" in short.reason and np.isnan(short.D_high)
    positions, species = vibrating(walkers(7, 1, 600, 0.0), 7)
    single = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert single.verdict == "undetermined" and "two replicas" in single.reason
    assert json.dumps(single.to_dict(), allow_nan=False)
    positions, species = vibrating(walkers(8, 1, 2000, 0.05), 8)
    many = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert many.verdict == "undetermined" and "1 replica has 3" in many.reason and many.D_low == 0


def test_few_ions_that_jump_often_are_no_diffusion():
    paths = walkers(9, 3, 2000, 0.1)
    paths[:, :, 4:] = 4 * CUBE[4:]
    positions, species = vibrating(paths, 9)
    found = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert found.verdict == "undetermined" and "4 different ions" in found.reason and np.isnan(found.D_cm2_s)


@pytest.mark.parametrize("slope, factor, reason", [
    (0.69, 1.0, "t^0.69"), (1.21, 1.0, "faster than by diffusion"), (0.9, 0.19, "only 0.19"),
    (np.nan, 1.0, "t^nan"), (0.71, 0.21, ""), (1.19, 1.5, ""),
])
def test_objections_to_many_jumps(slope, factor, reason):
    record = {"jumps_per_replica": [50, 60], "ions_jumped": 9, "log_slope": slope, "fit_high_ps": 30.0,
              "D_replicas_low": 1e-7, "correlation_factor": factor}
    assert reason in _objection(record) and bool(reason) == bool(_objection(record))


def test_given_sites_are_used():
    positions, species = vibrating(walkers(10, 2, 300, 0.0), 10)
    found = diffusion(positions, 12 * np.eye(3), species, "Na", STEP, sites=4 * CUBE[:9])
    assert found.n_sites == 9


def test_without_a_host_the_centre_of_mass_is_removed():
    positions, _ = vibrating(walkers(11, 2, 300, 0.0), 11, host=0)
    drift = (np.arange(300) * STEP)[:, None, None] * np.array([1.0, 0, 0])
    found = diffusion(positions + drift, 12 * np.eye(3), ["Na"] * 27, "Na", STEP)
    assert found.verdict == "not diffusing"


@pytest.mark.parametrize("change, message", [
    ({"positions": np.zeros((10, 4, 3))}, "replicas, frames, atoms"),
    ({"positions": np.zeros((1, 1, 4, 3))}, "fewer than 2 frames"),
    ({"cell": np.zeros((3, 3))}, "volume above zero"),
    ({"species": ["Na"] * 3}, "4 atoms, but 3 species"),
    ({"species": ["Na", "Na", "Xx", "S"]}, "Not a chemical symbol: Xx"),
    ({"mobile": "Li"}, "Li is not among Na, S"),
    ({"interval_ps": 1.0}, "at most 0.5 ps"),
    ({"positions": np.where(np.arange(240).reshape(2, 10, 4, 3) == 130, np.nan, 0)},
     "replica 1, frame 0, atom 3"),
])
def test_errors_name_what_is_wrong(change, message):
    given = {"positions": np.zeros((2, 10, 4, 3)), "cell": np.eye(3), "species": ["Na", "Na", "S", "S"],
             "mobile": "Na", "interval_ps": 0.1}
    with pytest.raises(ValueError, match=message):
        diffusion(**(given | change))


def test_kinisi_is_reported_only_where_replicas_bear_it_out():
    quiet, loud = np.array([0.98, 1.0, 1.02, 1.01]), np.array([0.6, 1.5, 0.8, 1.1])
    for values, kinisi, source, agrees in (
        (quiet, (1.0, 0.9, 1.1), "kinisi", True),
        (loud, (1.0, 0.9, 1.1), "replica slopes", False),  # replicas scatter more
        (quiet, (1.3, 1.2, 1.4), "replica slopes", False),  # another value
        (quiet, (2.5e18, 1e10, 3e18), "replica slopes", False),
        (quiet, (np.nan,) * 3, "replica slopes", False),
    ):
        chosen = choose_interval(values, replica_interval(values, 0.95)[:3], kinisi, 0.95)
        assert chosen["interval_from"] == source and chosen["kinisi_agrees"] is agrees, kinisi
        assert chosen["D_low"] < 1.0 < chosen["D_high"]


def test_failing_kinisi_leaves_the_replica_interval(monkeypatch):
    import kinisi.diffusion

    def fail(*args, **kwargs):
        raise np.linalg.LinAlgError("singular matrix")

    monkeypatch.setattr(kinisi.diffusion.Diffusion, "bayesian_regression", fail)
    positions, species = vibrating(walkers(5, 4, 800, 0.05), 5)
    found = diffusion(positions, 12 * np.eye(3), species, "Na", STEP)
    assert isinstance(found, Diffusion) and found.verdict == "diffusing"
    assert found.interval_from == "replica slopes" and "singular matrix" in found.kinisi_note
    assert (found.D_low, found.D_high) == (found.D_replicas_low, found.D_replicas_high)
    assert slopes.KINISI_LAGS >= 40

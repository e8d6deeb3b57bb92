"""Shapes, segments, units, errors and small exact properties of the spectra."""

import numpy as np
import pytest
from ionraman.raman import (
    BINS_OF_THE_MEAN,
    check_sampling,
    highest_line_cm,
    powder_spectrum,
    spectral_density,
    stokes_factor,
    susceptibility,
    window_weights,
)
from ionraman.units import C_CM_PER_PS as C
from ionraman.welch import segment_densities

INTERVAL, VOLUME = 0.01, 800.0


def noise(*shape, seed=0):
    """White symmetric polarizabilities around 50 A^3, (*shape, 3, 3)."""
    x = np.random.default_rng(seed).standard_normal((*shape, 3, 3))
    return x + x.swapaxes(-1, -2) + 50 * np.eye(3)


def test_shapes_and_what_they_mean():
    alpha = noise(4, 2700, 2)
    density = spectral_density(alpha, INTERVAL, VOLUME)
    n = len(density.wavenumber_cm)
    assert density.S_a_units.shape == density.S_gamma_units.shape == (2, 4, n)
    for name in ("S_a", "S_gamma", "S_a_se", "S_gamma_se"):
        assert getattr(density, name).shape == (n,)
    assert np.allclose(density.S_a, density.S_a_units.mean(axis=(0, 1)))
    assert np.allclose(density.S_a_se, density.S_a_units.mean(axis=0).std(axis=0, ddof=1) / 2)
    one_model = spectral_density(alpha[:, :, 1], INTERVAL, VOLUME)
    assert np.allclose(one_model.S_gamma_units[0], density.S_gamma_units[1])
    assert density.a_mean == pytest.approx(np.trace(alpha, axis1=-2, axis2=-1).mean() / 3)
    single = spectral_density(alpha[0, :, 0], INTERVAL, VOLUME)
    assert single.S_a_units.shape[:2] == (1, 1)
    assert density.wavenumber_cm[1] == pytest.approx(1 / (C * density.segment_ps))
    assert density.resolution_cm == pytest.approx(1.5 / (C * density.segment_ps))
    assert density.nyquist_cm == pytest.approx(1 / (2 * C * INTERVAL))


@pytest.mark.parametrize(
    ("replicas", "length_ps", "nu1", "segments"),
    [
        (4, 13.4, 10.0, 4),  # too short for 5: one segment each
        (4, 26.69, 5.0, 4),
        (4, 26.6, 5.1, 4),
        (5, 20.0, 6.7, 5),
        (3, 40.1, 5.0, 6),  # three replicas need two segments each
        (2, 40.1, 5.0, 4),
        (1, 67.0, 5.0, 4),
        (1, 200.0, 5.0, 13),
    ],
)
def test_smallest_wavenumber_follows_the_run(replicas, length_ps, nu1, segments):
    density = spectral_density(noise(replicas, round(length_ps / INTERVAL)), INTERVAL, VOLUME)
    assert density.nu1_cm == pytest.approx(nu1, abs=1e-9)
    assert density.segment_ps >= 4 / (C * density.nu1_cm) - 1e-9
    assert density.segment_ps == pytest.approx(4 / (C * nu1), abs=INTERVAL)
    assert density.n_segments == segments
    assert density.wavenumber_cm[BINS_OF_THE_MEAN] < density.nu1_cm


def test_requested_segments():
    density = spectral_density(noise(4, 6000), INTERVAL, VOLUME, segment_ps=40.0)
    assert (density.segment_ps, density.nu1_cm) == (40.0, 5.0)
    shorter = spectral_density(noise(4, 6000), INTERVAL, VOLUME, segment_ps=20.0)
    assert shorter.nu1_cm == pytest.approx(6.7)
    with pytest.raises(ValueError, match=r"4 replicas of 3000 frames .* 4000 frames: run longer"):
        spectral_density(noise(4, 3000), INTERVAL, VOLUME, segment_ps=40.0)


@pytest.mark.parametrize(
    ("replicas", "length_ps", "unit", "units"),
    [
        (3, 40.1, "replica", 3),
        (1, 106.9, "block", 4),
        (1, 1000.0, "block", 8),
        (2, 53.5, "block", 4),
        (2, 400.0, "block", 8),
        (1, 106.0, "undetermined", 1),
        (2, 50.0, "undetermined", 2),
    ],
)
def test_units_of_the_error(replicas, length_ps, unit, units):
    density = spectral_density(noise(replicas, round(length_ps / INTERVAL)), INTERVAL, VOLUME)
    assert density.unit == unit
    assert density.S_a_units.shape[1] == units
    assert np.isnan(density.S_a_se).all() == (unit == "undetermined")


def test_white_noise_has_the_floor_of_its_variance():
    alpha = noise(4, 20_000)
    density = spectral_density(alpha, INTERVAL, VOLUME)
    # Variance 2 off the diagonal and 4 on it: a has 4/3; gamma^2 has 3/2 x 8 from the diagonal and 9 x 2.
    level_a, level_gamma = (v * C * INTERVAL / VOLUME for v in (4 / 3, 12 + 18))
    assert density.S_a[2:].mean() == pytest.approx(level_a, rel=0.03)
    assert density.S_gamma[2:].mean() == pytest.approx(level_gamma, rel=0.03)
    assert density.flat_floor(400.0) == pytest.approx(level_a + 7 / 45 * level_gamma, rel=0.03)
    assert np.isnan(density.flat_floor(density.nyquist_cm))


def test_a_slow_drift_stays_in_the_bins_of_the_mean():
    """A periodic window keeps the levels of segments out of bin 2 and up; no segment loses its own."""
    steps = np.repeat([0.0, 1.0, 5.0], 1000)[None]
    S = segment_densities(steps, INTERVAL, 1000, overlap=0.0)[:, 0]
    assert S[:, BINS_OF_THE_MEAN:].max() < 1e-25
    scale = C * INTERVAL * 1000 / 1.5  # of a constant: (sum w)^2 / sum w^2 = N/1.5
    assert S[:, 0] == pytest.approx(scale * np.array([-2.0, -1.0, 3.0]) ** 2)


def test_members_scale_with_the_square_of_alpha():
    alpha = noise(4, 2700)
    density = spectral_density(np.stack([alpha, 2 * alpha], axis=2), INTERVAL, VOLUME)
    assert np.allclose(density.S_gamma_units[1], 4 * density.S_gamma_units[0], rtol=1e-10)
    assert np.allclose(density.a_mean_members, density.a_mean_members[0] * np.array([1, 2]))
    spectrum = powder_spectrum(density, 300.0)
    assert np.allclose(spectrum.intensity, spectrum.intensity_members.mean(axis=0))
    assert np.allclose(spectrum.intensity, 2.5 * spectrum.intensity_members[0])


def test_spectra_leave_out_the_bins_of_the_mean_and_geometries_add_up():
    density = spectral_density(noise(4, 2700), INTERVAL, VOLUME)
    spectra = {g: powder_spectrum(density, 300.0, geometry=g) for g in ("unpolarised", "VV", "VH")}
    assert spectra["VV"].wavenumber_cm[0] == density.wavenumber_cm[2]
    total = spectra["VV"].intensity + spectra["VH"].intensity
    assert np.allclose(spectra["unpolarised"].intensity, total)
    chi = susceptibility(density, 300.0)
    bose = 1 - np.exp(-1.438777 * chi.wavenumber_cm / 300.0)
    laser = (1 - chi.wavenumber_cm * 785e-7) ** 4
    assert np.allclose(chi.chi2, spectra["unpolarised"].intensity * bose / laser, rtol=1e-5)
    with pytest.raises(ValueError, match="'HV'; allowed are unpolarised, VV, VH"):
        powder_spectrum(density, 300.0, geometry="HV")


def test_table():
    density = spectral_density(noise(3, 5400, 2), INTERVAL, VOLUME)
    table = density.to_table(300.0)
    names = "wavenumber_cm S_a S_a_se S_gamma S_gamma_se I_unpolarised I_unpolarised_se I_VV I_VH chi2"
    assert list(table.columns) == [*names.split(), "I_member_0", "I_member_1"]
    assert table["wavenumber_cm"].iloc[0] == pytest.approx(density.wavenumber_cm[2])
    assert table["wavenumber_cm"].iloc[-1] <= 0.8 * density.nyquist_cm
    assert np.isfinite(table.to_numpy()).all()
    assert np.allclose(table["I_unpolarised"], table[["I_member_0", "I_member_1"]].mean(axis=1))


def test_stokes_factor():
    assert stokes_factor(0.0, 300.0) == 1.0
    assert stokes_factor(208.5, 300.0) == pytest.approx(
        1 / (1 - np.exp(-1)) * (1 - 208.5 * 785e-7) ** 4, rel=1e-4
    )
    assert stokes_factor(1e7 / 785 + 1, 300.0) == 0.0
    assert stokes_factor(-5000.0, 1.0) < 1e-299  # and no overflow
    with pytest.raises(ValueError, match="temperature_K is 0"):
        stokes_factor(10.0, 0)
    with pytest.raises(ValueError, match="laser_nm is -1"):
        stokes_factor(10.0, 300.0, -1)


def test_window_weights_integrate_a_line_exactly():
    density = spectral_density(noise(4, 2700), INTERVAL, VOLUME)
    nu = density.wavenumber_cm
    weights = window_weights(density, 5.3, 47.77, np.ones_like)
    assert weights @ (2 + 3 * nu) == pytest.approx(2 * 42.47 + 1.5 * (47.77**2 - 5.3**2), rel=1e-12)
    square = window_weights(density, 5.3, 47.77, np.square)
    assert square @ (2 + 3 * nu) == pytest.approx(
        2 / 3 * (47.77**3 - 5.3**3) + 0.75 * (47.77**4 - 5.3**4), rel=1e-12
    )
    parts = window_weights(density, 5.3, 30.1, np.ones_like) + window_weights(
        density, 30.1, 47.77, np.ones_like
    )
    assert np.allclose(parts, weights, atol=1e-14)
    inside_one_bin = window_weights(density, 30.1, 30.2, np.ones_like)
    assert inside_one_bin.sum() == pytest.approx(0.1)
    assert not weights[: BINS_OF_THE_MEAN + 1].any()
    for low, high in ((1.0, 50.0), (50.0, 50.0), (5.0, 0.81 * density.nyquist_cm)):
        with pytest.raises(ValueError, match="cannot be integrated"):
            window_weights(density, low, high, np.ones_like)


def test_unusable_input_is_named():
    alpha = noise(4, 2700)
    with pytest.raises(ValueError, match=r"shape \(2700, 6\)"):
        spectral_density(np.zeros((2700, 6)), INTERVAL, VOLUME)
    broken = alpha.copy()
    broken[2, 17, 0, 0] = np.nan
    with pytest.raises(ValueError, match="replica 2, frame 17 is not finite"):
        spectral_density(broken, INTERVAL, VOLUME)
    broken = alpha.copy()
    broken[1, :, 0, 1] += 3.0
    with pytest.raises(ValueError, match="replica 1 is not symmetric"):
        spectral_density(broken, INTERVAL, VOLUME)
    with pytest.raises(ValueError, match="volume_A3 is 0"):
        spectral_density(alpha, INTERVAL, 0)
    with pytest.raises(ValueError, match=r"interval_ps is -0\.01"):
        spectral_density(alpha, -0.01, VOLUME)
    for replicas, frames in ((1, 1), (1, 39), (4, 15)):
        with pytest.raises(ValueError, match="run longer"):
            spectral_density(noise(replicas, frames), INTERVAL, VOLUME)


def harmonic(nu, speed, steps, step, seed=1):
    """Velocities of uncoupled oscillators, (steps, *nu.shape)."""
    phases = np.random.default_rng(seed).uniform(0, 2 * np.pi, nu.shape)
    return speed * np.cos(2 * np.pi * C * step * np.arange(steps)[:, None, None] * nu + phases)


def test_highest_line():
    step, rng = 0.002, np.random.default_rng(1)
    nu = rng.uniform(50, 250, (60, 3))
    nu[:6] = rng.uniform(372, 378, (6, 3))  # the stretches of a polyanion
    velocities = harmonic(nu, 1.0, 1000, step)
    assert highest_line_cm(velocities, step) == pytest.approx(375, abs=17)
    assert highest_line_cm(np.stack([velocities, velocities]), step) == highest_line_cm(velocities, step)
    assert highest_line_cm(np.cumsum(velocities, axis=0), step, kind="positions") == pytest.approx(
        375, abs=17
    )
    assert highest_line_cm(velocities[:256], step) == pytest.approx(375, abs=65)  # half a picosecond
    noisy = velocities + 0.02 * rng.standard_normal(velocities.shape)
    assert highest_line_cm(noisy, step) == pytest.approx(375, abs=17)


def test_friction_of_a_thermostat_adds_no_line():
    """The tail of strongly damped motion has maxima of noise only."""
    rng, step, tau = np.random.default_rng(2), 0.002, 0.2
    frames, w0, v, x = 1000, 2 * np.pi * C * 150, np.zeros((30, 3)), np.zeros((30, 3))
    kept = []
    for _ in range(3000):
        v += -step * w0**2 * x
        v = np.exp(-step / tau) * v + np.sqrt(1 - np.exp(-2 * step / tau)) * rng.standard_normal((30, 3))
        x = x + step * v
        kept.append(v.copy())
    assert highest_line_cm(np.array(kept[-frames:]), step) == pytest.approx(150, abs=25)


def test_highest_line_refuses_what_it_cannot_read():
    still = np.zeros((1000, 4, 3))
    with pytest.raises(ValueError, match="nothing moves"):
        highest_line_cm(still, 0.002)
    with pytest.raises(ValueError, match="too short"):
        highest_line_cm(still[:40], 0.002)
    with pytest.raises(ValueError, match=r"shape \(1000, 4\)"):
        highest_line_cm(still[..., 0], 0.002)
    with pytest.raises(ValueError, match="kind is 'momenta'"):
        highest_line_cm(still, 0.002, kind="momenta")
    with pytest.raises(ValueError, match="not finite"):
        highest_line_cm(still + np.inf, 0.002)


def test_sampling_rule():
    check_sampling(0.010, 400.0)  # SbS4 would allow 20.8 fs; the rule never allows more than 10
    check_sampling(0.0075, 1100.0)
    with pytest.raises(ValueError, match=r"every 10\.5 fs.*400 cm\^-1.*every 10 fs or more often"):
        check_sampling(0.0105, 400.0)
    with pytest.raises(ValueError, match=r"1100 cm\^-1.*every 7\.5 fs"):
        check_sampling(0.010, 1100.0)

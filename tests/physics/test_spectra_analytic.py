"""Spectra against signals whose spectral density is known in closed form."""

import numpy as np
import pytest
from ionraman.marker import low_frequency
from ionraman.raman import (
    check_sampling,
    highest_line_cm,
    powder_spectrum,
    spectral_density,
    stokes_factor,
    susceptibility,
    window_weights,
)
from ionraman.units import C_CM_PER_PS as C
from ionraman.units import HC_OVER_KB_CM_K, KB_J
from ionraman.welch import segment_densities
from scipy.integrate import quad
from scipy.optimize import minimize
from scipy.signal import lfilter
from scipy.spatial.transform import Rotation

KB = KB_J / 1.66053906660e-27 * 1e-4  # u A^2 ps^-2 K^-1
HBAR = HC_OVER_KB_CM_K * KB / (2 * np.pi * C)  # u A^2 ps^-1
VOLUME = 1234.0
ONE = np.eye(3)
SHEAR = np.array([[0.0, 1, 0], [1, 0, 0], [0, 0, 0]])


def debye(rng, shape, frames, interval, tau, variance=1.0):
    """Exact samples of an Ornstein-Uhlenbeck process, shape (*shape, frames)."""
    decay = np.exp(-interval / tau)
    kicks = rng.standard_normal((*shape, frames))
    kicks[..., 1:] *= np.sqrt(1 - decay**2)
    return np.sqrt(variance) * lfilter([1], [1, -decay], kicks, axis=-1)


def oscillator(rng, shape, frames, interval, nu0, hwhm, variance=1.0):
    """Exact samples of x'' + g x' + w0^2 x = noise, w0 = 2 pi c nu0, g = 4 pi c hwhm, underdamped.

    x = 2 Re z, where z = b dW-driven decay with the complex rate of the characteristic equation.
    """
    w0, g = 2 * np.pi * C * nu0, 4 * np.pi * C * hwhm
    rate = complex(-g / 2, np.sqrt(w0**2 - g**2 / 4))
    b = np.sqrt(2 * g * w0**2 * variance) / (2j * rate.imag)

    def covariance(absolute, plain):
        return 0.5 * np.array([[absolute + plain.real, plain.imag], [plain.imag, absolute - plain.real]])

    stationary = covariance(abs(b) ** 2 / g, -(b**2) / (2 * rate))
    step = covariance(
        abs(b) ** 2 * (1 - np.exp(-g * interval)) / g, b**2 * np.expm1(2 * rate * interval) / (2 * rate)
    )
    kicks = rng.standard_normal((*shape, frames, 2))
    first = kicks[..., 0, :] @ np.linalg.cholesky(stationary).T
    kicks = kicks @ np.linalg.cholesky(step).T
    kicks[..., 0, :] = first
    z = lfilter([1], [1, -np.exp(rate * interval)], kicks[..., 0] + 1j * kicks[..., 1], axis=-1)
    return 2 * z.real


def oscillator_density(nu, nu0, hwhm, variance=1.0):
    """Two-sided spectral density of the oscillator, per cm^-1."""
    g = 2 * hwhm
    return variance * g * nu0**2 / np.pi / ((nu0**2 - nu**2) ** 2 + (g * nu) ** 2)


def tensor(signal, shape=ONE):
    """alpha (replicas, frames, 3, 3) of one scalar signal (replicas, frames)."""
    return signal[..., None, None] * shape


def whittle_fit(nu, density, model, start):
    """Parameters (logarithms) that maximise the Whittle likelihood of density."""

    def cost(p):
        m = model(nu, *np.exp(p))
        return np.sum(np.log(m) + density / m)

    return np.exp(minimize(cost, np.log(start), method="Nelder-Mead", options={"xatol": 1e-6}).x)


def within(values, truth, *, power):
    """The mean of replica values lies within 3 SE of the truth, and the SE is below power of it."""
    error = np.std(values, ddof=1) / np.sqrt(len(values))
    assert error < power * abs(truth), "the test has no power"
    assert abs(np.mean(values) - truth) < 3 * error, (np.mean(values), error, truth)


@pytest.mark.parametrize("temperature", [100.0, 600.0])
@pytest.mark.parametrize(("nu0", "hwhm"), [(40.0, 3.0), (150.0, 5.0)])
def test_langevin_oscillator_position_width_and_area(nu0, hwhm, temperature):
    variance = KB * temperature / (2 * np.pi * C * nu0) ** 2
    x = oscillator(np.random.default_rng(11), (12,), 20_000, 0.02, nu0, hwhm, variance)
    density = spectral_density(tensor(x), 0.02, VOLUME, segment_ps=100.0)
    nu = density.wavenumber_cm
    bins = (nu > 2) & (nu < 400)
    fits = np.array(
        [
            whittle_fit(
                nu[bins], S[bins] * VOLUME, oscillator_density, (1.1 * nu0, 1.3 * hwhm, 0.7 * variance)
            )
            for S in density.S_a_units[0]
        ]
    )
    within(fits[:, 0], nu0, power=0.01)
    within(fits[:, 1], hwhm, power=0.05)
    area = 2 * density.S_a_units[0][:, 2:].sum(axis=1) * nu[1]
    within(area, variance / VOLUME, power=0.05)
    assert np.allclose(density.S_gamma, 0)


def test_debye_relaxation_area_and_maximum_of_susceptibility():
    tau = 0.53
    x = debye(np.random.default_rng(3), (8,), 100_000, 0.05, tau, variance=2.0)
    density = spectral_density(tensor(x), 0.05, VOLUME, segment_ps=50.0)
    nu, S = density.wavenumber_cm, density.S_a_units[0]
    area = 2 * nu[1] * (S[:, 2:].sum(axis=1) + 1.5 * S[:, 2])  # bins 0 and 1 from the flat top beside them
    within(area, 2.0 / VOLUME, power=0.01)

    width = 1 / (2 * np.pi * C * tau)
    assert width == pytest.approx(10.0, rel=0.01)
    chi = susceptibility(density, 300.0)
    near = (chi.wavenumber_cm > width / 2) & (chi.wavenumber_cm < 2 * width)
    u = np.log(chi.wavenumber_cm[near])  # chi'' of a Debye relaxation is even in ln(nu/width)
    vertices = []
    for unit in S:
        y = (chi.wavenumber_cm * unit[2:])[near]
        c2, c1, _ = np.polyfit(u, y, 2, w=np.exp(-u / 2))
        vertices.append(np.exp(-c1 / (2 * c2)))
    within(vertices, width, power=0.03)
    c2, c1, _ = np.polyfit(u, chi.chi2[near], 2, w=np.exp(-u / 2))
    assert np.exp(-c1 / (2 * c2)) == pytest.approx(width, rel=0.05)


def test_no_false_rise_towards_zero():
    """One-sided transforms of the correlation function put this ratio at 0.4."""
    x = oscillator(np.random.default_rng(5), (4,), 20_000, 0.01, 200.0, 5.0)
    spectrum = powder_spectrum(spectral_density(tensor(x), 0.01, VOLUME), 300.0)
    nu, S = spectrum.wavenumber_cm, spectrum.intensity / stokes_factor(spectrum.wavenumber_cm, 300.0)
    ratio = S[(nu > 10) & (nu < 50)].mean() / S[(nu > 190) & (nu < 210)].mean()
    k = np.linspace(10, 50, 401), np.linspace(190, 210, 401)
    exact = oscillator_density(k[0], 200.0, 5.0).mean() / oscillator_density(k[1], 200.0, 5.0).mean()
    assert ratio == pytest.approx(exact, rel=0.2)


def cosine(nu0, amplitude, frames, interval):
    """Four replicas of amplitude cos(2 pi c nu0 t) at different phases."""
    phase = 2 * np.pi * C * nu0 * interval * np.arange(frames)
    return amplitude * np.cos(phase + np.array([0.0, 0.4, 1.1, 2.0])[:, None])


def bin_of(nu, frames, interval):
    """The wavenumber nearest to nu that is a bin of one segment of all frames."""
    return round(nu * frames * interval * C) / (frames * interval * C)


def test_absolute_scale_of_a_cosine():
    frames, interval, amplitude = 2700, 0.01, 0.37
    nu0 = bin_of(210.0, frames, interval)
    alpha = tensor(cosine(nu0, amplitude, frames, interval))
    density = spectral_density(alpha, interval, VOLUME, segment_ps=frames * interval)
    nu = density.wavenumber_cm
    assert 2 * density.S_a.sum() * nu[1] == pytest.approx(amplitude**2 / 2 / VOLUME, rel=1e-9)
    half = density.S_a @ window_weights(density, 200.0, 220.0, np.ones_like)
    assert half == pytest.approx(amplitude**2 / 4 / VOLUME, rel=1e-9)


@pytest.mark.parametrize("isotropic", [0.0, 0.8])
def test_powder_factors_from_random_rotations(isotropic):
    """A fixed tensor in 1e5 random orientations: the 45, 4, 3 and 7 of 45."""
    rng = np.random.default_rng(2)
    derivative = rng.standard_normal((3, 3))
    derivative = derivative + derivative.T
    derivative += (isotropic - np.trace(derivative) / 3) * ONE
    frames, interval = 2700, 0.01
    nu0 = bin_of(30.0, frames, interval)
    density = spectral_density(
        tensor(cosine(nu0, 1.0, frames, interval), derivative), interval, VOLUME, segment_ps=frames * interval
    )
    rotation = Rotation.random(100_000, rng=rng).as_matrix()
    turned = rotation @ derivative @ rotation.swapaxes(1, 2)
    squares = {"VV": turned[:, 2, 2] ** 2, "VH": turned[:, 0, 2] ** 2}
    squares["unpolarised"] = squares["VV"] + squares["VH"]
    for geometry, values in squares.items():
        got = (
            2 * density.powder_units(geometry).mean(axis=(0, 1)).sum() * density.wavenumber_cm[1] * 2 * VOLUME
        )
        assert abs(got - values.mean()) < 3 * values.std() / np.sqrt(len(values)), geometry
        assert values.std() / np.sqrt(len(values)) < 0.005 * values.mean()


@pytest.mark.parametrize("nu0", [30.0, 400.0])
def test_bose_factor_is_exact_for_a_harmonic_mode(nu0):
    """The classical amplitude at T gives hbar/(2 w) (n + 1) at 100 and 600 K, and chi'' does not change."""
    frames, interval, slope = 2700, 0.01, 1.7
    nu0 = bin_of(nu0, frames, interval)
    w0 = 2 * np.pi * C * nu0
    chi = []
    for temperature in (100.0, 600.0):
        amplitude = np.sqrt(2 * KB * temperature / w0**2)
        alpha = tensor(cosine(nu0, slope * amplitude, frames, interval))
        density = spectral_density(alpha, interval, VOLUME, segment_ps=frames * interval)
        got = powder_spectrum(density, temperature).intensity.sum() * density.wavenumber_cm[1]
        occupation = 1 / np.expm1(HC_OVER_KB_CM_K * nu0 / temperature)
        laser = (1 - nu0 * 785e-7) ** 4
        exact = laser * HBAR / (2 * w0) * (occupation + 1) * slope**2 / VOLUME
        assert got == pytest.approx(exact, rel=1e-3)
        chi.append(susceptibility(density, temperature).chi2)
    assert np.allclose(chi[0], chi[1], rtol=0, atol=1e-9 * chi[0].max())


def test_detailed_balance():
    nu, laser = np.array([5.0, 50.0, 400.0, 3000.0]), 1e7 / 785.0
    for temperature in (100.0, 600.0):
        ratio = stokes_factor(-nu, temperature) / stokes_factor(nu, temperature)
        exact = ((laser + nu) / (laser - nu)) ** 4 * np.exp(-HC_OVER_KB_CM_K * nu / temperature)
        assert np.allclose(ratio, exact, rtol=1e-10)


def test_sum_rule():
    x = debye(np.random.default_rng(8), (12,), 24_000, 0.02, 1.0) + 40.0
    for signal in x[:2]:  # exact: boxcar, no overlap, the segments tile the run
        S = segment_densities(signal[None], 0.02, 2000, window="boxcar", overlap=0.0).mean(axis=(0, 1))
        total = (2 * S.sum() - S[0] - S[-1]) / (2000 * 0.02 * C)
        assert total == pytest.approx(signal.var(), rel=1e-10)
    density = spectral_density(tensor(x), 0.02, 1.0, segment_ps=40.0)
    S = density.S_a_units[0]
    within((2 * S.sum(axis=1) - S[:, 0]) * density.wavenumber_cm[1], 1.0, power=0.03)


def test_slow_relaxation_keeps_its_area():
    """Removing the mean of each segment would leave 13 % of a 20 ps relaxation."""
    x = debye(np.random.default_rng(4), (6,), 40_000, 0.05, 20.0)
    density = spectral_density(tensor(x), 0.05, 1.0, segment_ps=26.7)
    area = (2 * density.S_a.sum() - density.S_a[0]) * density.wavenumber_cm[1]
    assert area == pytest.approx(x.var(axis=1).mean(), rel=0.1)
    assert area > 0.8


def test_intensity_against_direct_integration_of_the_correlation_function():
    """The textbook chain, written out: C(t) -> Fourier integral -> (45 a^2 + 7 gamma^2)/45 -> factors."""
    rng = np.random.default_rng(22)
    soft = np.array([[1.0, 0.3, 0], [0.3, -0.5, 0.2], [0, 0.2, 0.4]])
    hard = np.array([[0.2, 0, 0.6], [0, 0.9, 0], [0.6, 0, 0.1]])
    shape, tau, nu0, hwhm = (12, 25_000), 0.4, 60.0, 6.0
    alpha = tensor(debye(rng, shape[:1], shape[1], 0.02, tau), soft)
    alpha = alpha + tensor(oscillator(rng, shape[:1], shape[1], 0.02, nu0, hwhm), hard) + 90 * ONE
    marker = low_frequency(
        spectral_density(alpha, 0.02, VOLUME), 250.0, 5.0, 100.0, n_atoms=50, nu_max_cm=400.0, laser_nm=532.0
    )

    t = np.linspace(0, 12, 24_001)
    w0, g = 2 * np.pi * C * nu0, 4 * np.pi * C * hwhm
    w1 = np.sqrt(w0**2 - g**2 / 4)
    decays = (
        np.exp(-t / tau),
        np.exp(-g * t / 2) * (np.cos(w1 * t) + g / (2 * w1) * np.sin(w1 * t)),
    )

    def scattered(derivative):
        a = np.trace(derivative) / 3
        beta = derivative - a * ONE
        return (45 * a**2 + 7 * 1.5 * np.trace(beta @ beta)) / 45

    def intensity(nu):
        kernel = 2 * np.cos(2 * np.pi * C * nu * t)
        S = sum(
            C / VOLUME * np.trapezoid(kernel * c, t) * scattered(d)
            for c, d in zip(decays, (soft, hard), strict=True)
        )
        y = HC_OVER_KB_CM_K * nu / 250.0
        return S * y / (1 - np.exp(-y)) * ((1e7 / 532 - nu) / (1e7 / 532)) ** 4

    exact = quad(intensity, 5.0, 100.0, limit=200)[0]
    within(marker.I_low_units[0], exact, power=0.015)


def test_a_strong_narrow_line_does_not_leak_into_the_window():
    rng = np.random.default_rng(12)
    interval, temperature = 0.02, 300.0
    x = oscillator(rng, (4,), 50_000, interval, 30.0, 4.0)
    x = x + oscillator(rng, (4,), 50_000, interval, 65.6, 0.1, variance=100.0)

    def intensity(nu):
        S = oscillator_density(nu, 30.0, 4.0) + oscillator_density(nu, 65.6, 0.1, 100.0)
        return stokes_factor(nu, temperature) * S / VOLUME

    exact = quad(intensity, 5, 50)[0]
    found = []
    for multiple in (4, 6, 8):
        density = spectral_density(tensor(x), interval, VOLUME, segment_ps=multiple / (C * 5.0))
        assert density.nu1_cm == 5.0
        found.append(low_frequency(density, temperature, n_atoms=1, nu_max_cm=400.0).I_low_A3)
    assert found == pytest.approx([exact] * 3, rel=0.10)
    assert max(found) / min(found) < 1.05

    density = spectral_density(tensor(x), interval, VOLUME)
    length = round(density.segment_ps / interval)
    weights = window_weights(density, 5.0, 50.0, lambda nu: stokes_factor(nu, temperature))
    boxcar = [
        segment_densities(s[None], interval, length, window="boxcar").mean(axis=(0, 1)) @ weights for s in x
    ]
    assert np.mean(boxcar) / VOLUME > 1.1 * exact


def test_a_high_line_stored_too_rarely_is_refused():
    rng = np.random.default_rng(9)
    step = 0.0005
    nu = rng.uniform(60, 400, (40, 3))
    nu[7, 1] = 3316
    speed = np.full((40, 3), 1 / 5)  # 25 u at the temperature that gives hydrogen a speed of 1
    speed[7, 1] = 1.0
    velocities = speed * np.cos(
        2 * np.pi * C * step * np.arange(4000)[:, None, None] * nu + rng.uniform(0, 6, (40, 3))
    )
    top = highest_line_cm(velocities, step)
    assert top == pytest.approx(3316, abs=9)
    positions = np.cumsum(velocities, axis=0) * step
    assert highest_line_cm(positions, step, kind="positions") == pytest.approx(3316, abs=9)
    with pytest.raises(ValueError, match=r"every 10 fs.*3\d\d\d cm\^-1.*2\.5 fs"):
        check_sampling(0.010, top)
    check_sampling(0.0025, top)
    # What the refusal prevents: the line itself, stored at 10 fs, appears at 20 cm^-1.
    folded = spectral_density(cosine(3316.0, 1.0, 3000, 0.01)[..., None, None] * ONE, 0.01, VOLUME)
    assert folded.wavenumber_cm[folded.S_a.argmax()] == pytest.approx(2 / (0.02 * C) - 3316, abs=2)


def test_shuffled_frames_are_flat():
    rng = np.random.default_rng(6)
    x = oscillator(rng, (8,), 60_000, 0.01, 100.0, 15.0)
    x = np.array([rng.permutation(signal) for signal in x])
    density = spectral_density(tensor(x, SHEAR), 0.01, VOLUME)
    nu = density.wavenumber_cm
    level = 3 * C * 0.01 / VOLUME  # S_gamma = 3 S_xy of unit variance
    for low, high in ((5, 60), (70, 130), (800, 1300)):
        band = (nu > low) & (nu < high)
        within(density.S_gamma_units[0][:, band].mean(axis=1), level, power=0.03)
    assert density.flat_floor(300.0) == pytest.approx(7 / 45 * level, rel=0.03)


def test_independent_cells_add_up_and_copies_do_not():
    rng = np.random.default_rng(14)
    cells = debye(rng, (4, 8), 10_000, 0.02, 0.6) + oscillator(rng, (4, 8), 10_000, 0.02, 45.0, 4.0)

    def marker(signal, n):
        alpha = tensor(signal, ONE + SHEAR) + n * 50 * ONE
        return low_frequency(
            spectral_density(alpha, 0.02, n * VOLUME), 300.0, n_atoms=20 * n, nu_max_cm=200.0
        )

    single = [marker(cell, 1) for cell in cells]
    together = marker(cells.sum(axis=0), 4)
    mean = np.mean([m.I_low_A3 for m in single])
    se = np.hypot(
        together.I_low_units.std(ddof=1), np.mean([m.I_low_units.std() for m in single]) / 2
    ) / np.sqrt(8)
    assert se < 0.05 * mean
    assert abs(together.I_low_A3 - mean) < 3 * se
    assert together.r_low == pytest.approx(np.mean([m.r_low for m in single]), rel=3 * se / mean)
    copied = marker(4 * cells[0], 4)
    assert copied.I_low_A3 == pytest.approx(4 * single[0].I_low_A3, rel=1e-9)


def test_spectra_are_invariant_under_rotation_of_the_cell():
    rng = np.random.default_rng(17)
    alpha = np.moveaxis(debye(rng, (3, 3, 3), 6000, 0.01, 0.3), -1, 1)
    alpha = alpha + alpha.swapaxes(-1, -2)
    turn = Rotation.random(rng=rng).as_matrix()
    before = spectral_density(alpha, 0.01, VOLUME)
    after = spectral_density(turn @ alpha @ turn.T, 0.01, VOLUME)
    assert np.allclose(after.S_a, before.S_a, rtol=1e-9, atol=0)
    assert np.allclose(after.S_gamma, before.S_gamma, rtol=1e-9, atol=0)

"""Definitions, windows, members and limits of the low-frequency marker."""

import json

import numpy as np
import pytest
from ionraman.marker import low_frequency
from ionraman.raman import powder_spectrum, spectral_density
from ionraman.units import HC_OVER_KB_CM_K
from scipy.stats import t as student_t

INTERVAL, VOLUME = 0.01, 800.0
ATOMS = {"n_atoms": 60, "nu_max_cm": 460.0}


def noise(*shape, seed=0):
    x = np.random.default_rng(seed).standard_normal((*shape, 3, 3))
    return x + x.swapaxes(-1, -2) + 50 * np.eye(3)


@pytest.fixture(scope="module")
def density():
    return spectral_density(noise(4, 5400, 3), INTERVAL, VOLUME)


def test_definitions(density):
    marker = low_frequency(density, 300.0, **ATOMS)
    spectrum = powder_spectrum(density, 300.0)
    grid = np.linspace(5, 50, 20_001)
    intensity = np.interp(grid, spectrum.wavenumber_cm, spectrum.intensity)
    assert marker.I_low_A3 == pytest.approx(np.trapezoid(intensity, grid), rel=1e-5)
    wide = np.linspace(5, 460, 200_001)
    whole = np.trapezoid(np.interp(wide, spectrum.wavenumber_cm, spectrum.intensity), wide)
    assert marker.R_low == pytest.approx(marker.I_low_A3 / whole, rel=1e-2)  # a mean of ratios over members
    assert marker.r_low == pytest.approx(60 * VOLUME * marker.I_low_A3 / density.a_mean**2, rel=1e-3)
    S_R = density.powder_units().mean(axis=(0, 1))
    chi = HC_OVER_KB_CM_K / 300.0 * np.trapezoid(np.interp(grid, density.wavenumber_cm, S_R), grid)
    assert marker.chi_low == pytest.approx(chi, rel=1e-6)
    assert marker.floor == density.flat_floor(460.0)
    # White noise is its own floor.
    assert marker.floor_share == pytest.approx(1.0, rel=0.1)


def test_interval_is_student_t_on_the_logarithm(density):
    marker = low_frequency(density, 300.0, confidence=0.9, **ATOMS)
    units = np.log(marker.I_low_units.mean(axis=0))
    half = student_t.ppf(0.95, 3) * units.std(ddof=1) / 2
    assert np.log(marker.I_low_high / marker.I_low_low) == pytest.approx(2 * half)
    assert marker.I_low_low < marker.I_low_A3 < marker.I_low_high
    assert 0 < marker.R_low_low < marker.R_low < marker.R_low_high < 1
    assert marker.chi_low_low < marker.chi_low < marker.chi_low_high
    assert marker.r_low_high / marker.r_low == pytest.approx(marker.I_low_high / marker.I_low_A3)
    assert low_frequency(density, 300.0, confidence=0.99, **ATOMS).I_low_low < marker.I_low_low


def test_members():
    alpha = noise(4, 2700)
    scales = np.array([1.0, 1.1, 0.8])
    density = spectral_density(np.stack([s * alpha for s in scales], axis=2), INTERVAL, VOLUME)
    marker = low_frequency(density, 300.0, **ATOMS)
    assert np.array(marker.I_low_members) == pytest.approx(marker.I_low_members[0] * scales**2)
    assert marker.I_low_A3 == pytest.approx(np.mean(marker.I_low_members))
    assert marker.alpha_spread == pytest.approx(np.std(scales**2, ddof=1) / np.mean(scales**2))
    assert marker.I_low_units.shape == (3, 4)
    single = low_frequency(spectral_density(alpha, INTERVAL, VOLUME), 300.0, **ATOMS)
    assert np.isnan(single.alpha_spread)
    # Blind to the scale of alpha, member by member.
    assert marker.R_low == pytest.approx(single.R_low)
    assert marker.r_low == pytest.approx(single.r_low)
    # The members differ by their scale alone, so they add nothing to the interval over replicas.
    assert marker.I_low_high / marker.I_low_A3 == pytest.approx(single.I_low_high / single.I_low_A3)


def test_windows(density):
    marker = low_frequency(density, 300.0, **ATOMS)
    assert [(w.nu1_cm, w.nu2_cm) for w in marker.windows] == [(5, 20), (5, 50), (5, 100)]
    assert (marker.windows[1].I_A3, marker.windows[1].I_A3_low) == (marker.I_low_A3, marker.I_low_low)
    assert marker.windows[0].I_A3 < marker.windows[1].I_A3 < marker.windows[2].I_A3


def test_short_run_starts_where_it_resolves():
    density = spectral_density(noise(4, 1340), INTERVAL, VOLUME)
    marker = low_frequency(density, 300.0, 5.0, **ATOMS)
    assert (marker.nu1_cm, marker.nu1_requested_cm) == (10.0, 5.0)
    assert [w.nu1_cm for w in marker.windows] == [10.0] * 3
    assert low_frequency(density, 300.0, 15.0, **ATOMS).nu1_cm == 15.0
    very_short = spectral_density(noise(4, 600), INTERVAL, VOLUME)
    marker = low_frequency(very_short, 300.0, **ATOMS)
    assert marker.nu1_cm == pytest.approx(22.3)
    assert np.isnan(marker.windows[0].I_A3)
    assert marker.windows[1].I_A3 > 0


def test_too_few_segments_are_undetermined():
    marker = low_frequency(spectral_density(noise(1, 7000), INTERVAL, VOLUME), 300.0, **ATOMS)
    assert marker.undetermined
    assert marker.unit == "undetermined"
    assert marker.I_low_A3 > 0
    assert np.isnan([marker.I_low_low, marker.I_low_high, marker.R_low_low, marker.chi_low_high]).all()
    blocks = low_frequency(spectral_density(noise(1, 11_000), INTERVAL, VOLUME), 300.0, **ATOMS)
    assert not blocks.undetermined
    assert blocks.I_low_low < blocks.I_low_A3 < blocks.I_low_high


def test_no_intensity_has_no_interval():
    alpha = np.broadcast_to(50.0 * np.eye(3), (4, 2700, 3, 3))
    marker = low_frequency(spectral_density(alpha, INTERVAL, VOLUME), 300.0, **ATOMS)
    assert marker.I_low_A3 == 0
    assert marker.undetermined
    assert json.loads(json.dumps(marker.to_dict(), allow_nan=False))["R_low"] is None


def test_plain_dictionary(density):
    marker = low_frequency(density, 300.0, **ATOMS)
    plain = json.loads(json.dumps(marker.to_dict(), allow_nan=False))
    assert np.allclose(plain["I_low_units"], marker.I_low_units)
    assert plain["windows"][2]["nu2_cm"] == 100.0
    assert plain["undetermined"] is False
    undetermined = low_frequency(spectral_density(noise(1, 7000), INTERVAL, VOLUME), 300.0, **ATOMS).to_dict()
    assert undetermined["I_low_low"] is None
    assert undetermined["alpha_spread"] is None


def test_unusable_requests_are_named(density):
    with pytest.raises(ValueError, match="n_atoms is 0"):
        low_frequency(density, 300.0, n_atoms=0, nu_max_cm=460.0)
    with pytest.raises(ValueError, match=r"nu_max is 50 cm\^-1"):
        low_frequency(density, 300.0, n_atoms=60, nu_max_cm=50.0)
    with pytest.raises(ValueError, match=r"start at 50 cm\^-1"):
        low_frequency(density, 300.0, 50.0, **ATOMS)
    with pytest.raises(ValueError, match="cannot be integrated"):
        low_frequency(density, 300.0, n_atoms=60, nu_max_cm=1500.0)
    with pytest.raises(ValueError, match="confidence is 95"):
        low_frequency(density, 300.0, confidence=95, **ATOMS)

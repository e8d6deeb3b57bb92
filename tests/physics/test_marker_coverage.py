"""The interval of the marker holds the true value as often as it says, over 400 synthetic campaigns."""

import numpy as np
import pytest
from ionraman.marker import low_frequency
from ionraman.raman import spectral_density, stokes_factor
from ionraman.units import C_CM_PER_PS as C
from scipy.signal import lfilter

INTERVAL, VOLUME, TEMPERATURE, RUNS = 0.1, 1000.0, 300.0, 400
COMPONENTS = ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))
RELAXATIONS = (
    (0.5, 1.0),
    (5.0, 0.49),
)  # time in ps, variance: one resolved by the window, one mostly below it


def run(rng, replicas, frames, spread):
    """alpha of one campaign: six independent components, each replica with an amplitude of its own."""
    signal = np.zeros((replicas, 6, frames))
    for tau, variance in RELAXATIONS:
        decay = np.exp(-INTERVAL / tau)
        kicks = rng.standard_normal(signal.shape)
        kicks[..., 1:] *= np.sqrt(1 - decay**2)
        signal += np.sqrt(variance) * lfilter([1], [1, -decay], kicks, axis=-1)
    signal *= np.exp(spread * rng.standard_normal((replicas, 1, 1)))
    alpha = np.zeros((replicas, frames, 3, 3))
    for k, (i, j) in enumerate(COMPONENTS):
        alpha[:, :, i, j] = alpha[:, :, j, i] = signal[:, k]
    return alpha + 10 * np.eye(3)


def true_intensity(spread):
    """Expected I_low: spectra of the sampled relaxations, integrated on a fine grid."""
    nu = np.linspace(5, 50, 4001)
    S = np.zeros_like(nu)
    for tau, variance in RELAXATIONS:
        decay = np.exp(-INTERVAL / tau)
        denominator = 1 - 2 * decay * np.cos(2 * np.pi * C * nu * INTERVAL) + decay**2
        S += variance * C * INTERVAL / VOLUME * (1 - decay**2) / denominator
    # a has a third of a component's variance; gamma^2 has 3 x 1/2 x 2 from the diagonal and 3 x 3 beside it.
    S *= np.exp(2 * spread**2) * (45 / 3 + 7 * 12) / 45
    return np.trapezoid(S * stokes_factor(nu, TEMPERATURE), nu)


@pytest.mark.parametrize(
    ("replicas", "length_ps", "spread", "unit"),
    [(5, 27.0, 0.1, "replica"), (3, 27.0 * 1.5, 0.1, "replica"), (1, 27.0 * 6, 0.0, "block")],
)
def test_coverage(replicas, length_ps, spread, unit):
    rng = np.random.default_rng(1)
    truth = true_intensity(spread)
    inside, values = 0, []
    for _ in range(RUNS):
        alpha = run(rng, replicas, round(length_ps / INTERVAL), spread)
        density = spectral_density(alpha, INTERVAL, VOLUME)
        marker = low_frequency(density, TEMPERATURE, n_atoms=40, nu_max_cm=120.0)
        assert marker.unit == unit
        assert marker.nu1_cm == 5.0
        inside += marker.I_low_low < truth < marker.I_low_high
        values.append(marker.I_low_A3)
    assert np.mean(values) == pytest.approx(truth, rel=0.02)
    assert 370 <= inside <= 390

"""Standard errors of correlated series, and the decision that a cell has settled."""

import numpy as np
import pytest
from ionraman.equilibration import cell_settled, squared_error


def correlated(rng, count, tau):
    """Ornstein-Uhlenbeck series of unit variance; its integrated correlation time is tau samples."""
    decay = np.exp(-1 / tau)
    noise, series = rng.normal(size=count), np.empty(count)
    series[0] = noise[0]
    for k in range(1, count):
        series[k] = decay * series[k - 1] + np.sqrt(1 - decay**2) * noise[k]
    return series


def test_squared_error_is_the_scatter_of_means():
    rng = np.random.default_rng(0)
    series = [correlated(rng, 2000, 20) for _ in range(200)]
    scatter = np.var([part.mean() for part in series])
    assert np.mean([squared_error(part, 2000) for part in series]) == pytest.approx(scatter, rel=0.2)


def cells(volumes):
    return np.cbrt(volumes)[:, :, None, None] * np.eye(3)


def test_a_stationary_cell_has_settled_and_a_drifting_one_has_not():
    rng = np.random.default_rng(1)
    noise = np.array([[correlated(rng, 1000, 50) for _ in range(1)] for _ in range(100)])[:, 0].T
    settled = [cell_settled(cells(1000 + 5 * noise[:, k : k + 1])) for k in range(100)]
    assert np.mean(settled) > 0.5  # thirds of 7 correlation times; a wrong no only makes a run longer
    drift = np.linspace(0, 60, 1000)[:, None]
    assert not any(cell_settled(cells(1000 + drift + 5 * noise[:, k : k + 1])) for k in range(20))
    one_drifts = np.concatenate([noise[:, :1], noise[:, 1:2] + drift / 5], axis=1)
    assert not cell_settled(cells(1000 + 5 * one_drifts))

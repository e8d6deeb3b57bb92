"""Sites of the mobile ions, found in a trajectory, and the net jumps between them.

A net jump (conventions, section Transport): an ion leaves its site, stays at least 1 ps on another, and is
not back within 5 ps. Vibration, circling in place and jump-and-back are none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from ase.geometry import minkowski_reduce
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import maximum_filter
from scipy.spatial import cKDTree

STAY_PS = 1.0
"""An ion has reached a site when it stays on it this long."""

RETURN_PS = 5.0
"""An ion that is back on its site within this time has not jumped."""

TOGETHER_PS = 2.0
"""Jumps of different ions within this time count as one event for the statistics."""

ASSIGN_PS = 0.25
"""Positions are averaged over this time before an ion is given to its nearest site."""

MERGE_SHARE, MERGE_A = 0.7, (1.0, 2.8)
"""Maxima nearer than this share of the distance between ions are one site; bounds of that distance."""

SMOOTHING_A = 0.4
VOXEL_A = 0.3
SLOW_A = 0.5
MINIMUM_BLOCKS = 1.5
"""Smallest density of a site, in units of the peak of a single 1-ps average: about 3 ps spent there."""


@dataclass(frozen=True, eq=False)
class NetJumps:
    """Net jumps of all replicas, ordered by replica and ion.

    Attributes:
        sites_A: (sites, 3) Cartesian positions.
        nearest_site_A: (sites,) distance from each site to the nearest other one, images included.
        replica, ion, time_ps: (jumps,) which replica, which mobile ion, and when it arrived.
        displacement_A: (jumps, 3) vector from the site left to the site reached.
        observed_ps: time per replica in which a departure could be confirmed: the run less the last 5 ps.
    """

    sites_A: NDArray[np.float64]
    nearest_site_A: NDArray[np.float64]
    replica: NDArray[np.int64]
    ion: NDArray[np.int64]
    time_ps: NDArray[np.float64]
    displacement_A: NDArray[np.float64]
    observed_ps: float

    @property
    def count(self) -> int:
        return len(self.replica)

    @property
    def ions(self) -> int:
        """Different mobile ions that jumped; the same ion in two replicas counts once."""
        return len(np.unique(self.ion))

    @property
    def together(self) -> int:
        """s: the most different ions that jump within 2 ps in one replica; 3 if there was no jump."""
        if not self.count:
            return 3
        most = 1
        for replica in np.unique(self.replica):
            times, ions = (a[self.replica == replica] for a in (self.time_ps, self.ion))
            order = np.argsort(times)
            times, ions = times[order], ions[order]
            # Starting every window at a jump is enough: the fullest window can be moved to begin at one.
            ends = np.searchsorted(times, times + TOGETHER_PS, side="right")
            for start, end in enumerate(ends):
                if end - start > most:
                    most = max(most, len(np.unique(ions[start:end])))
        return most

    @property
    def squared_step_A2(self) -> float:
        """a^2: the larger of the longest nearest-site distance squared and the jumps' mean squared step."""
        longest = float(self.nearest_site_A.max() ** 2)
        return max(longest, float((self.displacement_A**2).sum(1).mean())) if self.count else longest


class PeriodicSites:
    """Nearest periodic image among a set of sites, for any cell.

    Args:
        sites: (sites, 3) Cartesian, A.
        cell: (3, 3) rows are the lattice vectors, A.
    """

    def __init__(self, sites: ArrayLike, cell: ArrayLike) -> None:
        # In a Minkowski-reduced cell the 27 neighbouring images hold the nearest one.
        self.cell = minkowski_reduce(np.asarray(cell, float))[0]
        self.inverse = np.linalg.inv(self.cell)
        self.fractional = np.asarray(sites, float) @ self.inverse % 1.0
        self.sites = self.fractional @ self.cell
        shifts = np.array(np.meshgrid(*[[-1, 0, 1]] * 3, indexing="ij")).reshape(3, -1).T
        images = self.fractional[:, None] + shifts
        self._shift = np.tile(shifts, (len(self.sites), 1))
        self._tree = cKDTree(images.reshape(-1, 3) @ self.cell)
        self._images = len(shifts)

    def nearest(self, points: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Index (n,), lattice translation (n, 3), distance (n,) in A of the site nearest to points (n, 3)."""
        fractional = points @ self.inverse
        home = np.floor(fractional)
        distance, found = self._tree.query((fractional - home) @ self.cell)
        return found // self._images, self._shift[found] + home.astype(np.int64), distance

    def spacing(self) -> NDArray[np.float64]:
        """(sites,) distance to the nearest other site, which may be an image of the site itself."""
        return self._tree.query(self.sites, k=2)[0][:, 1]


def block_means(paths: NDArray, frames: int) -> NDArray[np.float32]:
    """Means (replicas, blocks, ions, 3) over consecutive blocks of `frames` frames."""
    replicas, total, ions, _ = paths.shape
    blocks = total // frames
    return paths[:, : blocks * frames].reshape(replicas, blocks, frames, ions, 3).mean(2)


def find_sites(paths: NDArray, cell: ArrayLike, interval_ps: float) -> NDArray[np.float64]:
    """Sites of the mobile ions from where they linger.

    Positions are averaged over 1 ps; averages during which the ion was under way (its mean moves by more than
    twice the median, and more than 0.5 A, between the two halves) are left out. Their density on a periodic
    grid is smoothed by a Gaussian of 0.4 A; its maxima, from the highest down, are sites unless a higher one
    lies within 0.7 times the distance of neighbouring ions (bounded to 1-2.8 A). So a site needs about 3 ps
    of stay in all replicas together; split positions closer than that are one site, and so is the path of an
    ion that circles in place. Sites are moved to the mean of the averages around them, and merged once more.

    Args:
        paths: (replicas, frames, ions, 3) A, free of host drift and in one frame of reference.
        cell: (3, 3) A.
        interval_ps: time between frames.

    Returns:
        (sites, 3) Cartesian positions inside the Minkowski-reduced cell, A.
    """
    half = max(1, round(0.5 * STAY_PS / interval_ps))
    halves = block_means(paths, half)
    blocks = halves.shape[1] // 2
    halves = halves[:, : 2 * blocks].reshape(paths.shape[0], blocks, 2, paths.shape[2], 3)
    centres = halves.mean(2)
    moved = np.linalg.norm(halves[:, :, 1] - halves[:, :, 0], axis=-1)
    points = centres[moved <= max(2.0 * float(np.median(moved)), SLOW_A)].astype(float)

    reduced = minkowski_reduce(np.asarray(cell, float))[0]
    merge = _merge_distance(centres, reduced)
    sites, weight = _density_maxima(points, reduced)
    sites = sites[_apart(sites, weight, merge, reduced)]
    while True:
        sites, weight = _centred(sites, points, merge, reduced)
        # Centring can bring two sites together, such as the halves of a ring.
        kept = _apart(sites, weight, merge, reduced)
        if len(kept) == len(sites):
            return PeriodicSites(sites, reduced).sites
        sites = sites[kept]


def _apart(sites: NDArray, weight: NDArray, merge: float, cell: NDArray) -> list[int]:
    """Sites from the heaviest down that have no heavier one within the distance `merge`."""
    inverse = np.linalg.inv(cell)
    kept: list[int] = []
    for candidate in np.argsort(-weight, kind="stable"):
        apart = sites[kept] - sites[candidate]
        apart -= np.round(apart @ inverse) @ cell
        if not kept or (apart**2).sum(1).min() > merge**2:
            kept.append(int(candidate))
    return kept


def _centred(sites: NDArray, points: NDArray, merge: float, cell: NDArray) -> tuple[NDArray, NDArray]:
    """Sites moved to the mean of their points within `merge`, and how many those are."""
    periodic = PeriodicSites(sites, cell)
    index, translation, distance = periodic.nearest(points)
    near = distance < merge
    index = index[near]
    offset = points[near] - (periodic.fractional[index] + translation[near]) @ cell
    count = np.bincount(index, minlength=len(sites))
    mean = np.stack([np.bincount(index, offset[:, c], len(sites)) for c in range(3)], 1)
    return periodic.sites + mean / np.maximum(count, 1)[:, None], count


def _merge_distance(centres: NDArray, cell: NDArray) -> float:
    """Share of the distance of neighbouring ions (median over up to 8 moments)."""
    if centres.shape[2] == 1:
        return MERGE_A[1]
    moments = np.linspace(0, centres.shape[1] - 1, min(8, centres.shape[1])).astype(int)
    spacings = [PeriodicSites(snapshot, cell).spacing() for snapshot in centres[0, moments]]
    return float(np.clip(MERGE_SHARE * np.median(spacings), *MERGE_A))


def _density_maxima(points: NDArray, cell: NDArray) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Maxima (n, 3) of the smoothed density of points; heights (n,) in units of a single point's peak."""
    shape = np.ceil(np.linalg.norm(cell, axis=1) / VOXEL_A).astype(int)
    inverse = np.linalg.inv(cell)
    voxel = np.floor(points @ inverse % 1.0 * shape).astype(int) % shape
    counts = np.bincount(np.ravel_multi_index(tuple(voxel.T), shape), minlength=shape.prod()).reshape(shape)
    # The Gaussian is applied in reciprocal space, where it is exact for a skewed periodic cell.
    nx, ny, nz = shape
    orders = np.meshgrid(np.fft.fftfreq(nx, 1 / nx), np.fft.fftfreq(ny, 1 / ny), np.fft.rfftfreq(nz, 1 / nz),
                         indexing="ij")
    wavevector = 2 * np.pi * np.stack(orders, -1) @ inverse.T
    kernel = np.exp(-0.5 * SMOOTHING_A**2 * (wavevector**2).sum(-1))
    density = np.fft.irfftn(np.fft.rfftn(counts) * kernel, shape, axes=(0, 1, 2))
    density *= (2 * np.pi) ** 1.5 * SMOOTHING_A**3 / (abs(np.linalg.det(cell)) / shape.prod())
    threshold = min(MINIMUM_BLOCKS, 0.5 * density.max())
    peaks = np.argwhere((density == maximum_filter(density, 3, mode="wrap")) & (density >= threshold))
    return (peaks + 0.5) / shape @ cell, density[tuple(peaks.T)]


def net_jumps(paths: NDArray, cell: ArrayLike, sites: ArrayLike, interval_ps: float) -> NetJumps:
    """Net jumps of every ion between the given sites.

    An ion belongs to the nearest site, by its mean position over 0.25 ps (or one frame, if longer).
    It jumps when its last moment on its site is followed by 5 ps without a moment there and it stays >= 1 ps
    on another site before any return; the first such site is then its own. Departures in the last 5 ps of a
    run cannot be confirmed: neither they nor that time are counted.

    Args:
        paths: (replicas, frames, ions, 3) A, as for `find_sites`.
        cell: (3, 3) A.
        sites: (sites, 3) Cartesian, A.
        interval_ps: time between frames, at most 0.5.
    """
    frames = max(1, int(ASSIGN_PS / interval_ps + 1e-6))
    step = frames * interval_ps
    stay, away = (int(np.ceil(time / step - 1e-6)) for time in (STAY_PS, RETURN_PS))
    periodic = PeriodicSites(sites, cell)
    found: list[tuple[int, int, float, NDArray]] = []
    for replica in range(len(paths)):
        coarse = block_means(paths[replica : replica + 1], frames)[0]
        index, translation, _ = periodic.nearest(coarse.reshape(-1, 3).astype(float))
        place = np.concatenate([index[:, None], translation], 1).reshape(*coarse.shape[:2], 4)
        for ion in range(coarse.shape[1]):
            for frame, before, after in _jumps_of_one(place[:, ion], stay, away):
                vector = (periodic.fractional[after[0]] + after[1:]
                          - periodic.fractional[before[0]] - before[1:]) @ periodic.cell
                found.append((replica, ion, frame * step, vector))
    return NetJumps(
        periodic.sites, periodic.spacing(),
        np.array([f[0] for f in found], int), np.array([f[1] for f in found], int),
        np.array([f[2] for f in found], float), np.array([f[3] for f in found], float).reshape(-1, 3),
        max(0.0, (paths.shape[1] // frames) * step - RETURN_PS),
    )


def _jumps_of_one(place: NDArray, stay: int, away: int) -> list[tuple[int, NDArray, NDArray]]:
    """Net jumps of one ion: (frame of arrival, site left, site reached) from its sites (frames, 4)."""
    jumps: list[tuple[int, NDArray, NDArray]] = []
    edges = np.flatnonzero((place[1:] != place[:-1]).any(1)) + 1
    if not len(edges):
        return jumps
    start = np.concatenate([[0], edges])
    end = np.concatenate([edges, [len(place)]])
    visited, key = np.unique(place[start], axis=0, return_inverse=True)
    key = key.ravel()
    long = np.flatnonzero(end - start >= stay)
    if not len(long):
        return jumps
    visits = {k: np.flatnonzero(key == k) for k in range(len(visited))}
    home = long[0]
    while True:
        same = visits[key[home]]
        later = same[np.searchsorted(same, home, side="right") :]
        if len(later) and start[later[0]] - end[home] < away:
            home = later[0]
            continue
        if end[home] + away > len(place):
            return jumps
        reached = long[np.searchsorted(long, home + 1) :]
        if len(later):
            reached = reached[reached < later[0]]
        reached = reached[:1]
        if not len(reached):
            # Away for long without staying anywhere: on the way, until it is back or stays.
            if not len(later):
                return jumps
            home = later[0]
            continue
        jumps.append((int(start[reached[0]]), visited[key[home]], visited[key[reached[0]]]))
        home = reached[0]

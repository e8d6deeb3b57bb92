"""Molecular dynamics of a batch of systems: relax, NPT to the mean cell, NVT, production in NVE with replicas.

The engine takes a list of members (one structure at one temperature each) and integrates them, with their replicas, as one
torch-sim batch. Every `checkpoint_ps` it writes the frames since the last time as a segment per member and then a
checkpoint with everything that the next step depends on, so a run killed at any moment goes on from there; on a CPU
the trajectory is bit for bit that of an uninterrupted run. A member that blows up leaves the batch with its reason.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch_sim as ts
from ase import Atoms
from torch_sim.integrators.npt import npt_crescale_anisotropic_step, npt_crescale_init
from torch_sim.integrators.nve import nve_step
from torch_sim.integrators.nvt import nvt_langevin_init, nvt_langevin_step
from torch_sim.units import MetalUnits

from ionraman import checkpoint, guards, raman
from ionraman.attempts import Stopped
from ionraman.checkpoint import Progress
from ionraman.equilibration import cell_settled, symmetric_cell
from ionraman.potentials import Potential
from ionraman.production import production_record, record_file
from ionraman.progress import ProgressFile
from ionraman.protocol import Member, Protocol, digest
from ionraman.segments import Frames
from ionraman.trajectory import polarizability_store, write_json
from ionraman.units import KB_EV

FS = MetalUnits.time / 1000.0
"""One femtosecond in torch-sim's unit of time."""

BULK_MODULUS_EV_A3 = 0.15
"""About 25 GPa, typical of the candidates; it sets only how fast the barostat's cell relaxes."""

WARM_UP = 2
"""Evaluations before the first one that counts."""

GUARD_STEPS = 25
LINE_PS = 2.0
"""First part of production that is sampled every step, to find the highest line of the velocity spectrum: at constant energy, because the
noise of a thermostat has a spectrum of its own."""


class Engine:
    """Runs one batch of members to the end of production, or on from its checkpoint.

    Args:
        members: the batch; they share the protocol.
        protocol: see `Protocol`.
        potential: force field.
        folder: where checkpoint.pt and progress.json of the batch lie.
        device, dtype: of the integration.
        should_stop: asked at every step; once true, the engine saves and raises `Stopped`.
        on_saved: told the steps that are safe on disk, at the start and after each checkpoint.
    """

    def __init__(
        self,
        members: list[Member],
        protocol: Protocol,
        potential: Potential,
        folder: Path,
        device: torch.device,
        dtype: torch.dtype = torch.float32,
        should_stop: Callable[[], bool] = lambda: False,
        on_saved: Callable[[int], None] = lambda steps: None,
    ) -> None:
        self.members, self.protocol, self.potential, self.folder = members, protocol, potential, Path(folder)
        self.names = [member.key for member in members]
        self.device, self.dtype, self.should_stop, self.on_saved = device, dtype, should_stop, on_saved
        self.digests = [digest(member, protocol, potential.sha256) for member in members]
        self.frames = Frames(members, self.digests, protocol, str(device))
        self.stores = self.frames.stores
        self._models: dict[bool, torch.nn.Module] = {}
        self._saved = None

    def run(self) -> list[dict]:
        """Integrate to the end and return one record per member (status, reason and what was done).

        Raises:
            Stopped: `should_stop` became true; a later call goes on from there.
        """
        self.clock = time.monotonic()
        if not self._restore():
            self._begin()
        self.resumed_step = self._done_steps()
        lengths = (self.protocol.npt_ps, self.protocol.nvt_ps, self.protocol.production_ps)
        total = sum(map(self.protocol.steps, lengths))
        self.reporter = ProgressFile(self.folder / "progress.json", self.members, total, self.resumed_step)
        self.on_saved(self.resumed_step)
        while self.progress.stage != "done":
            getattr(self, f"_{self.progress.stage}")()
        self._report(force=True)
        return self.progress.records

    # Stages

    def _begin(self) -> None:
        for member, store in zip(self.members, self.stores, strict=True):
            store.drop_from(0)
            polarizability_store(member.folder).drop_from(0)
        self.progress = Progress(
            names=self.names,
            alive=list(range(len(self.members))),
            records=[{"status": "running", "reason": ""} for _ in self.members],
        )
        state = ts.initialize_state([member.atoms for member in self.members], self.device, self.dtype)
        model = self._model(stress=True)
        converged = ts.generate_force_convergence_fn(self.protocol.relax_fmax_eV_A, include_cell_forces=True)

        def converged_or_stopped(state, last_energy=None):
            if self.should_stop():
                raise Stopped("stopped in the relaxation; run again to begin anew")
            return converged(state, last_energy)

        state = ts.optimize(
            state,
            model,
            optimizer=ts.Optimizer.fire,
            convergence_fn=converged_or_stopped,
            max_steps=self.protocol.relax_steps,
            init_kwargs={"cell_filter": ts.CellFilter.frechet},
            autobatcher=False,
        )
        state = ts.SimState.from_state(state)
        forces = model(state)["forces"].norm(dim=1)
        for index, record in enumerate(self.progress.records):
            record["relax_fmax_eV_A"] = float(forces[state.system_idx == index].max())
            record["n_atoms"] = len(self.members[index].atoms)
            record["relaxed_cell_A"] = state.row_vector_cell[index].tolist()
        state.rng = self._seed()
        self.state = npt_crescale_init(
            state,
            model,
            kT=self._kT(state),
            dt=torch.tensor(self.protocol.timestep_fs * FS),
            tau_p=torch.tensor(self.protocol.barostat_tau_ps * 1000 * FS),
            isothermal_compressibility=torch.tensor(1 / BULK_MODULUS_EV_A3),
        )
        self._save()

    def _npt(self) -> None:
        model, dt = self._model(stress=True), self.protocol.timestep_fs * FS
        target = self.protocol.steps(self.protocol.npt_ps)
        limit = self.protocol.steps(max(self.protocol.npt_limit_ps, self.protocol.npt_ps))
        spacing = max(self.protocol.steps(self.protocol.npt_ps * 2 / 3 / self.protocol.replicas), 1)
        atoms = torch.bincount(self.state.system_idx).to(self.dtype)
        while True:
            if self.progress.step >= target:
                settled = [cell_settled(cells) for cells in self._symmetric_cells()]
                if all(settled) or self.progress.step >= limit:
                    break
                target = min(target + self.protocol.steps(self.protocol.npt_ps / 2), limit)
            if self.progress.step % self.protocol.stride == 0:
                self.progress.cells.append(self.state.row_vector_cell.cpu().numpy().copy())
            # The thermostat counts 3N degrees of freedom, but the total momentum is zero.
            kT = self._kT(self.state) * (atoms - 1) / atoms
            self.state = npt_crescale_anisotropic_step(
                self.state,
                model,
                dt=dt,
                kT=kT,
                external_pressure=0.0,
                tau=self.protocol.thermostat_tau_ps * 1000 * FS,
            )
            if (self.progress.step + 1) % spacing == 0:
                inverse = torch.linalg.inv(self.state.row_vector_cell)[self.state.system_idx]
                fractional = torch.einsum("ai,aij->aj", self.state.positions, inverse)
                self.progress.starts = [*self.progress.starts, fractional.cpu().numpy()][
                    -self.protocol.replicas :
                ]
            self._after_step()
            if not self.progress.alive:
                return
            if self.progress.stage == "npt" and len(atoms) != self.state.n_systems:
                atoms = torch.bincount(self.state.system_idx).to(self.dtype)
        self._start_nvt(settled)

    def _symmetric_cells(self) -> list[np.ndarray]:
        """Cells of NPT so far, (frames, 3, 3) in A for each member that is alive, without the strains that its symmetry forbids."""
        cells = np.array(self.progress.cells)
        members = [self.members[index] for index in self.progress.alive]
        return [
            np.array([symmetric_cell(cell, m.atoms.cell.array, m.rotations) for cell in cells[:, k]])
            for k, m in enumerate(members)
        ]

    def _start_nvt(self, settled: list[bool]) -> None:
        """Mean cells; each replica starts from a frame of its own from the last two thirds of NPT."""
        systems = []
        cells = np.array(self.progress.cells)
        for position, index in enumerate(self.progress.alive):
            member = self.members[index]
            mean = cells[len(cells) // 3 :, position].mean(axis=0)
            cell = symmetric_cell(mean, member.atoms.cell.array, member.rotations)
            chosen = (self.state.system_idx == position).cpu().numpy()
            for replica in range(self.protocol.replicas):
                fractional = self.progress.starts[replica % len(self.progress.starts)][chosen]
                systems.append(Atoms(member.atoms.numbers, fractional @ cell, cell=cell, pbc=True))
            self.progress.records[index] |= {
                "npt_ps": self.progress.step * self.protocol.timestep_fs / 1000,
                "npt_settled": bool(settled[position]),
                "mean_cell_A": cell.tolist(),
                "volume_A3": float(abs(np.linalg.det(cell))),
            }
        generator = self.state.rng
        state = ts.initialize_state(systems, self.device, self.dtype)
        state.rng = generator
        self.state = nvt_langevin_init(state, self._model(stress=False), kT=self._kT(state))
        self.progress.stage, self.progress.step, self.progress.cells, self.progress.starts = "nvt", 0, [], []
        self._save()

    def _nvt(self) -> None:
        model, dt = self._model(stress=False), self.protocol.timestep_fs * FS
        steps = self.protocol.steps(self.protocol.nvt_ps)
        gamma = 1 / (self.protocol.thermostat_tau_ps * 1000 * FS)
        while self.progress.step < steps:
            self.state = nvt_langevin_step(self.state, model, dt=dt, kT=self._kT(self.state), gamma=gamma)
            self._after_step()
            if not self.progress.alive:
                return
        self._start_production()

    def _start_production(self) -> None:
        momenta = self.state.momenta
        mass = torch.zeros(self.state.n_systems, device=self.device, dtype=self.dtype)
        mass = mass.index_add(0, self.state.system_idx, self.state.masses)
        total = torch.zeros(self.state.n_systems, 3, device=self.device, dtype=self.dtype)
        total = total.index_add(0, self.state.system_idx, momenta)
        velocity = (total / mass[:, None])[self.state.system_idx]
        self.state.momenta = momenta - self.state.masses[:, None] * velocity
        self.progress.stage, self.progress.step = "production", 0
        self._save()

    def _production(self) -> None:
        model, dt = self._model(stress=False), self.protocol.timestep_fs * FS
        steps = self.protocol.steps(self.protocol.production_ps)
        line = min(self.protocol.steps(LINE_PS), steps)
        while True:
            if self.progress.lines and self.progress.step >= line:
                self._find_highest_lines()
            if not self.progress.alive:
                return
            if self.progress.step >= steps:
                break
            if self.progress.step % self.protocol.stride == 0:
                self._sample()
            self.state = nve_step(self.state, model, dt=dt)
            if self.progress.step < line:
                self.progress.lines.append(self.state.velocities.cpu().numpy() * MetalUnits.time)
            self._after_step()
        self._save()
        for index in self.progress.alive:
            record = self.progress.records[index]
            record |= production_record(self.members[index], self.protocol, record["mean_cell_A"])
            self._finish(index)
        self.progress.stage = "done"
        self._save(checkpoint_only=True, stage="production")

    def _find_highest_lines(self) -> None:
        """Highest line of every member; one whose polarizability would be sampled too coarsely ends here, before its cost."""
        velocities, lost = np.array(self.progress.lines), {}
        self.progress.lines = []
        if len(velocities) * self.protocol.timestep_fs < 100:
            return  # no spectrum can be made of so short a run
        replica = self.state.system_idx.cpu().numpy()
        for position, index in enumerate(self.progress.alive):
            chosen = replica // self.protocol.replicas == position
            own = velocities[:, chosen].reshape(len(velocities), self.protocol.replicas, -1, 3).swapaxes(0, 1)
            highest = raman.highest_line_cm(own, self.protocol.timestep_fs / 1000)
            self.progress.records[index]["highest_line_cm"] = highest
            try:
                raman.check_sampling(self.protocol.sampling_fs / 1000, highest)
            except ValueError as error:
                text = str(error)
                lost[position] = ("invalid", f"{text[0].upper()}{text[1:]} (dynamics.sampling_fs of the row)")
        if lost:
            self._drop(lost)

    # Bookkeeping

    def _seed(self) -> int:
        """Of the batch's generator: two batches share no noise."""
        text = " ".join([str(self.protocol.seed), *self.digests])
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4])

    def _model(self, stress: bool):
        if stress not in self._models:
            model = self._models[stress] = self.potential.torchsim(self.device, self.dtype, stress)
            # TorchScript evaluates for the first time with other kernels, whose forces differ in the last digit: without this a
            # resumed run would, too.
            cells = ts.initialize_state([member.atoms for member in self.members], self.device, self.dtype)
            for _ in range(WARM_UP):
                model(cells)
        return self._models[stress]

    def _targets_K(self, state) -> torch.Tensor:
        repeat = 1 if state.n_systems == len(self.progress.alive) else self.protocol.replicas
        targets = [self.members[index].temperature_K for index in self.progress.alive for _ in range(repeat)]
        return torch.tensor(targets, device=self.device, dtype=self.dtype)

    def _kT(self, state) -> torch.Tensor:
        return self._targets_K(state) * KB_EV

    def _temperatures_K(self) -> torch.Tensor:
        kinetic = 0.5 * (self.state.momenta**2).sum(dim=1) / self.state.masses
        total = torch.zeros(self.state.n_systems, device=self.device, dtype=self.dtype)
        total = total.index_add(0, self.state.system_idx, kinetic)
        freedom = 3 * (torch.bincount(self.state.system_idx) - 1).clamp(min=1)
        return 2 * total / (freedom * KB_EV)

    def _sample(self) -> None:
        temperature = self._temperatures_K()
        freedom = 3 * (torch.bincount(self.state.system_idx) - 1).clamp(min=1)
        energy = self.state.energy.double() + (0.5 * freedom * KB_EV * temperature).double()
        self.frames.add(self.state.positions, energy, temperature)

    def _after_step(self) -> None:
        self.progress.step += 1
        if self.progress.step % GUARD_STEPS == 0:
            self._guard()
        if self.progress.alive:
            every = max(self.protocol.steps(self.protocol.checkpoint_ps), 1)
            if self.progress.step % every == 0:
                self._save()
            self._report()
        if self.should_stop():
            self._save()
            self._report(force=True)
            raise Stopped(
                f"stopped in {self.progress.stage} at step {self.progress.step}; run again to go on"
            )

    def _guard(self) -> None:
        targets = self._targets_K(self.state)
        reasons = guards.blown_up(
            self.state, targets, self._temperatures_K(), self._model(False).neighbor_list_fn
        )
        if not reasons:
            return
        repeat = self.state.n_systems // len(self.progress.alive)
        where = f"{self.progress.stage} after {self.progress.step * self.protocol.timestep_fs / 1000:.2f} ps"
        lost = {}
        for system in sorted(reasons, reverse=True):
            lost[system // repeat] = ("unstable", f"In {where} {reasons[system]}.")
        self._drop(lost)

    def _drop(self, lost: dict[int, tuple[str, str]]) -> None:
        """Take members out of the batch: place among those alive -> status and reason."""
        self._save()
        for position, (status, reason) in sorted(lost.items()):
            index = self.progress.alive[position]
            record = self.progress.records[index]
            record |= {"status": status, "reason": reason}
            self._finish(index)
        keep = [p for p in range(len(self.progress.alive)) if p not in lost]
        self.state = checkpoint.keep_alive(self.progress, self.state, keep)
        self._save(checkpoint_only=True)

    def _done_steps(self) -> int:
        order = ["npt", "nvt", "production", "done"]
        lengths = [self.protocol.npt_ps, self.protocol.nvt_ps, self.protocol.production_ps]
        stage = order.index(self.progress.stage)
        done = sum(self.protocol.steps(length) for length in lengths[:stage])
        return done + (self.progress.step if self.progress.stage != "done" else 0)

    def _report(self, force: bool = False) -> None:
        self.reporter.report(self.progress.stage, self.progress.step, self._done_steps(), force)

    # Segments and checkpoint

    def _finish(self, index: int) -> None:
        """Leave the record of a member that is through beside its trajectory, where `batches.assign` finds it."""
        write_json(
            record_file(self.members[index]), self.progress.records[index] | {"digest": self.digests[index]}
        )

    def _save(self, checkpoint_only: bool = False, stage: str | None = None) -> None:
        if not checkpoint_only:
            alive = self.progress.alive
            cells = [self.progress.records[index].get("mean_cell_A") for index in alive]
            self.frames.write(alive, cells, self.state.system_idx.cpu().numpy())
        self.progress.seconds += time.monotonic() - self.clock
        self.clock = time.monotonic()
        for record in self.progress.records:
            record["seconds"] = round(self.progress.seconds, 1)
        where = (stage or self.progress.stage, self.progress.step)
        # Saved again at the same step, it replaces itself: the previous one is to be of an earlier segment.
        checkpoint.save(self.folder, self.digests, self.progress, self.state, stage, keep=where != self._saved)
        self._saved = where
        self.on_saved(self._done_steps())

    def _restore(self) -> bool:
        """Take up the latest checkpoint whose frames are all on disk and readable."""
        checked = False
        for name in (checkpoint.LATEST, checkpoint.PREVIOUS, checkpoint.START):
            stored = checkpoint.load(self.folder / name, self.names, self.digests, self.device)
            if stored is None:
                continue
            self.progress, self.state = stored
            first = 0
            if self.progress.stage == "production":
                if not checked:
                    for store in self.stores:
                        store.set_aside_damaged()
                    checked = True
                first = -(-self.progress.step // self.protocol.stride)
                if any(self.stores[index].frames() < first for index in self.progress.alive):
                    continue
            for member in self.members:
                polarizability_store(member.folder).drop_from(first)
            self.frames.begin(first)
            return True
        self.frames.begin(0)
        return False

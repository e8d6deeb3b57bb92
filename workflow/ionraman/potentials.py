"""Interatomic potentials: load a MACE force field and hand it to ASE or to torch-sim."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path

import torch
from ase.data import chemical_symbols

from ionraman import modelfile
from ionraman.digests import model_sha256
from ionraman.modelfile import ModelError
from ionraman.neighbours import VerletList, library_list


class DeviceError(RuntimeError):
    """The device that was asked for is not there."""


def select_device(name: str) -> torch.device:
    """Device of `name`: 'cpu', 'cuda', or 'auto' (a GPU if there is one).

    Raises:
        DeviceError: 'cuda' was asked for and torch sees none; says which driver and build were found.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name == "cuda" and not torch.cuda.is_available():
        driver = Path("/proc/driver/nvidia/version")
        found = driver.read_text().splitlines()[0] if driver.exists() else "no NVIDIA driver is loaded"
        build = torch.version.cuda or "none (a CPU build of torch)"
        raise DeviceError(
            f"A GPU was asked for (compute.device: cuda) but torch {torch.__version__} sees none. "
            f"Driver: {found}. CUDA build of torch: {build}. Ask the scheduler for a GPU, install a build that the "
            "driver supports (scripts/campaign setup --torch cu126), or set compute.device: cpu."
        )
    return torch.device(name)


@dataclass(frozen=True)
class Potential:
    """A MACE force field: energies in eV, forces in eV/A, stress in eV/A^3."""

    path: Path
    sha256: str
    module: torch.nn.Module
    description: dict

    @property
    def elements(self) -> list[str]:
        """Symbols that the model was trained for."""
        return [chemical_symbols[int(z)] for z in self.module.atomic_numbers]

    @property
    def r_max(self) -> float:
        """Cutoff in A."""
        return float(self.module.r_max)

    def calculator(self, device: str = "cpu", dtype: str = "float64"):
        """ASE calculator."""
        from mace.calculators import MACECalculator

        return MACECalculator(
            models=[self.module.to(select_device(device))], device=device, default_dtype=dtype
        )

    def torchsim(self, device: torch.device, dtype: torch.dtype, stress: bool):
        """torch-sim model of a batch of systems; on a CPU with the lean kernels of `ionraman.convolution`."""
        from torch_sim.models.mace import MaceModel

        from ionraman.convolution import fuse

        return MaceModel(
            fuse(copy.deepcopy(self.module)) if device.type == "cpu" else self.module,
            device=device,
            dtype=dtype,
            compute_stress=stress,
            neighbor_list_fn=VerletList(library_list(device)),
        )


def load(path: Path | str, sha256: str | None = None) -> Potential:
    """Load a force field from a model folder (safetensors) or a MACE `.model` file.

    A `.model` file is a pickle and runs code when read: it is opened only if `sha256` is given and matches.

    Raises:
        ModelError: missing, damaged, not trusted, or not a force field.
    """
    path = Path(path)
    if not path.exists():
        raise ModelError(
            f"The force field {path} does not exist. Nothing is fetched: put the file there, or name another in "
            "config/models.yaml."
        )
    found = model_sha256(path)
    if path.is_file() and sha256 is None:
        raise ModelError(
            f"{path} is a pickled model: reading it runs code. State its SHA-256 in config/models.yaml "
            f"(the file on disk has {found}) if you trust where it came from."
        )
    if sha256 is not None and found != sha256:
        raise ModelError(f"{path} has SHA-256 {found}, but config/models.yaml states {sha256}.")
    if path.is_dir():
        members, description = modelfile.load(path)
        module = members[0] if members else None
    else:
        module, description = torch.load(path, map_location="cpu", weights_only=False), {}
    if not hasattr(module, "atomic_energies_fn"):
        raise ModelError(f"{path} holds a {description.get('class', type(module).__name__)}, which gives no energies.")
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return Potential(path, found, module.eval(), description)

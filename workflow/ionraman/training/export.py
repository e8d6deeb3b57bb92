"""From training checkpoints to model folders without pickles."""

from __future__ import annotations

from pathlib import Path

import torch
from ase.data import chemical_symbols
from mace.tools.scripts_utils import extract_config_mace_model

from ionraman import modelfile

_UNUSED = ("edge_irreps", "cueq_config", "embedding_specs", "readout_cls", "error")


def export_force_field(model: torch.nn.Module, folder: Path | str, card: dict) -> None:
    """Write a ScaleShiftMACE as a model folder.

    Args:
        model: the trained module.
        folder: created or overwritten.
        card: licence, data, errors and how it was made.

    Raises:
        ModelError: the folder does not rebuild the module (compared parameter by parameter).
    """
    arguments = {key: value for key, value in extract_config_mace_model(model).items() if key not in _UNUSED}
    arguments["atomic_numbers"] = [int(z) for z in model.atomic_numbers]
    # A model of one layer has a linear readout, and its constructor ignores this argument.
    arguments["MLP_irreps"] = str(getattr(model.readouts[-1], "hidden_irreps", "16x0e"))
    arguments["distance_transform"] = arguments["distance_transform"] or "None"
    elements = [chemical_symbols[z] for z in arguments["atomic_numbers"]]
    modelfile.save(folder, type(model).__name__, arguments, [model], {"kind": "force", "elements": elements}, card)
    rebuilt = modelfile.load(folder)[0][0]
    for (name, stored), loaded in zip(model.state_dict().items(), rebuilt.state_dict().values(), strict=True):
        if not torch.equal(stored.cpu(), loaded):
            raise modelfile.ModelError(f"{folder}: '{name}' differs after a round trip.")

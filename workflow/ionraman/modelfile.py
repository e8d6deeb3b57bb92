"""Model folders: weights as safetensors, the constructor's arguments as JSON, nothing pickled.

A folder holds `model.json` (class name, arguments, elements, standardisation of labels: what decides the values), one
`member_<k>.safetensors` per network (none where a physical model stands alone), and `card.json` (data, errors, licence: what may be edited without changing the model). The module is rebuilt by calling the MACE class with the stored arguments and loading
the weights, so that reading a model runs no code from the file.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import mace  # noqa: F401  (before e3nn: it sets torch's safe globals)
import numpy as np
import torch
from e3nn import o3
from mace import modules
from safetensors.torch import load_file
from safetensors.torch import save as serialise

CLASSES = {"ScaleShiftMACE": modules.ScaleShiftMACE, "AtomicDielectricMACE": modules.AtomicDielectricMACE}
GATES = {"silu": torch.nn.functional.silu, "tanh": torch.tanh, None: None}
_IRREPS = ("hidden_irreps", "MLP_irreps", "edge_irreps")
_INTERACTIONS = ("interaction_cls", "interaction_cls_first")


class ModelError(ValueError):
    """A model file is missing, damaged, not trusted or does not cover what was asked of it."""


def encode_arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    """Constructor arguments as plain JSON."""
    gates = {function: name for name, function in GATES.items()}
    encoded = {}
    for key, value in arguments.items():
        if key in _IRREPS and value is not None:
            value = str(value)
        elif key in _INTERACTIONS:
            value = value.__name__
        elif key == "gate":
            value = gates[value]
        elif isinstance(value, np.ndarray | torch.Tensor):
            value = np.asarray(value).tolist()
        elif isinstance(value, np.generic):
            value = value.item()
        encoded[key] = value
    return encoded


def decode_arguments(encoded: dict[str, Any]) -> dict[str, Any]:
    """Inverse of `encode_arguments`."""
    arguments = dict(encoded)
    for key in _IRREPS:
        if arguments.get(key) is not None:
            arguments[key] = o3.Irreps(arguments[key])
    for key in _INTERACTIONS:
        arguments[key] = modules.interaction_classes[arguments[key]]
    arguments["gate"] = GATES[arguments["gate"]]
    for key in ("atomic_energies", "atomic_inter_scale", "atomic_inter_shift"):
        if arguments.get(key) is not None:
            arguments[key] = np.asarray(arguments[key])
    return arguments


def save(
    folder: Path | str, name: str, arguments: dict[str, Any], members: list[torch.nn.Module], decisive: dict, card: dict
) -> None:
    """Write the members, all of the class `name` (of `CLASSES`) and built with the same `arguments`; none: no network.

    decisive goes to model.json with the arguments (kind, elements, standardisation); card to card.json.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("member_*.safetensors"):
        old.unlink()
    for number, member in enumerate(members):
        state = {key: value.detach().cpu().contiguous().clone() for key, value in member.state_dict().items()}
        (folder / f"member_{number}.safetensors").write_bytes(serialise(state))
    dtype = next(members[0].parameters()).dtype if members else torch.float32
    record = {
        "class": name,
        "dtype": str(dtype).removeprefix("torch."),
        "arguments": encode_arguments(arguments) if members else {},
        **decisive,
    }
    (folder / "model.json").write_text(json.dumps(record, indent=1) + "\n")
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n")


def load(folder: Path | str) -> tuple[list[torch.nn.Module], dict]:
    """Rebuild the members of a model folder and return them with its description.

    Raises:
        ModelError: a file is missing or the weights do not fit the arguments.
    """
    folder = Path(folder)
    try:
        record = json.loads((folder / "model.json").read_text())
    except FileNotFoundError:
        raise ModelError(
            f"{folder} holds no model.json: give a model folder or a MACE .model file."
        ) from None
    except json.JSONDecodeError as error:
        raise ModelError(f"{folder / 'model.json'} is not valid JSON ({error}).") from error
    files = sorted(folder.glob("member_*.safetensors"))
    if not files and "physical" not in record:
        raise ModelError(f"{folder} holds no member_<k>.safetensors.")
    default = torch.get_default_dtype()
    members = []
    try:
        torch.set_default_dtype(getattr(torch, record["dtype"]))
        for file in files:
            member = CLASSES[record["class"]](**decode_arguments(record["arguments"]))
            member.load_state_dict(load_file(file))
            members.append(member.eval())
    except (RuntimeError, KeyError, TypeError) as error:
        raise ModelError(f"{folder} cannot be rebuilt: {error}") from error
    finally:
        torch.set_default_dtype(default)
    return members, record

"""Why a run gets no trajectory."""

from __future__ import annotations

from collections.abc import Sequence

from ase.data import chemical_symbols


def refusal(structure: dict, timestep_fs: float, elements: Sequence[str]) -> dict | None:
    """Status and reason of a run that cannot be integrated; None if it can.

    Args:
        structure: structure.json of the candidate.
        timestep_fs: of its dynamics.
        elements: symbols that the force field covers; none where they are not known.
    """
    if structure["status"] != "complete":
        return {"status": structure["status"], "reason": structure["reason"]}
    found = {chemical_symbols[number] for number in structure["atoms"]["numbers"]}
    if "H" in found and timestep_fs > 0.5:
        reason = f"Hydrogen needs timestep_fs of at most 0.5; found {timestep_fs:g} (overrides of the row)."
        return {"status": "invalid", "reason": reason}
    if elements and (missing := sorted(found - set(elements))):
        reason = f"The force field does not cover {', '.join(missing)}; it covers {' '.join(elements)}."
        return {"status": "unsupported", "reason": reason}
    return None

"""Serve an ASE calculator to another process, one JSON line per configuration; run by the teacher's own Python (>= 3.9).

    python serve.py MODULE_OR_FILE:FUNCTION ARGUMENTS_AS_JSON

Needs ase and numpy only. Lines of input: numbers, positions (A), cell (A). Lines of output: energy (eV), forces (eV/A),
stress (Voigt, eV/A^3) or null, or error. Whatever the calculator prints goes to the standard error.
"""

import importlib
import importlib.util
import json
import os
import sys


def build(factory, arguments):
    """Call module:function or file.py:function."""
    place, _, name = factory.rpartition(":")
    if place.endswith(".py"):
        spec = importlib.util.spec_from_file_location("teacher", place)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    else:
        module = importlib.import_module(place)
    return getattr(module, name)(**arguments)


def evaluate(calculator, record, stress):
    """Energy, forces and stress of one configuration as plain JSON."""
    from ase import Atoms

    atoms = Atoms(record["numbers"], record["positions"], cell=record["cell"], pbc=True)
    atoms.calc = calculator
    answer = {"energy": float(atoms.get_potential_energy()), "forces": atoms.get_forces().tolist()}
    answer["stress"] = [float(x) for x in atoms.get_stress()] if stress else None
    return answer


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    factory, arguments = sys.argv[1], json.loads(sys.argv[2])
    stress = arguments.pop("__stress__", True)
    try:
        calculator = build(factory, arguments)
        answers.write(json.dumps({"ready": True}) + "\n")
    except Exception as error:
        answers.write(json.dumps({"error": f"{type(error).__name__}: {error}"}) + "\n")
        return
    answers.flush()
    for line in sys.stdin:
        try:
            answer = evaluate(calculator, json.loads(line), stress)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()

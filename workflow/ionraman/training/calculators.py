"""ASE calculators for sampling and labels: the teacher, here or in an environment of its own, and our own force fields."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from ionraman.training.settings import Teacher


class TeacherError(RuntimeError):
    """The teacher cannot be started or failed on a configuration."""


class Served(Calculator):
    """Calculator that runs in a process of its own (`serve.py`), with the Python that the settings name.

    A process of its own also where it is the same Python: a teacher that sets torch's defaults or threads does not
    touch ours.
    """

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, teacher: Teacher) -> None:
        super().__init__()
        self.implemented_properties = ["energy", "forces", *(["stress"] if teacher.stress else [])]
        arguments = json.dumps(teacher.arguments | {"__stress__": teacher.stress})
        command = [
            teacher.python or sys.executable,
            str(Path(__file__).with_name("serve.py")),
            teacher.factory,
            arguments,
        ]
        try:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
            )
        except OSError as error:
            raise TeacherError(
                f"The teacher's Python {command[0]} cannot be started ({error.strerror}); training.teacher.python names it."
            ) from None
        self.factory = teacher.factory
        self._answer()

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        record = {
            "numbers": atoms.numbers.tolist(),
            "positions": atoms.positions.tolist(),
            "cell": atoms.cell.array.tolist(),
        }
        self.process.stdin.write(json.dumps(record) + "\n")
        answer = self._answer()
        self.results = {"energy": answer["energy"], "forces": np.array(answer["forces"])}
        if answer["stress"] is not None:
            self.results["stress"] = np.array(answer["stress"])

    def close(self) -> None:
        """End the process; one that takes long over it (a large teacher on a busy node) is killed."""
        self.process.stdin.close()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        answer = json.loads(line) if line else {"error": "its process ended (see the log)"}
        if "error" in answer:
            raise TeacherError(f"The teacher {self.factory} failed: {answer['error']}.")
        return answer


def shipped(path: str, sha256: str | None = None, dtype: str = "float64"):
    """Calculator of a force field of ours (model folder, or MACE file with its SHA-256): a teacher for tests."""
    import torch

    from ionraman import potentials

    torch.set_num_threads(1)
    return potentials.load(path, sha256).calculator(dtype=dtype)

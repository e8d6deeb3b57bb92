"""How Quantum ESPRESSO is run, with shells in its place; the real programs run in tests/train."""

import ase.io
import numpy as np
import pytest
from ase.build import bulk
from ionraman.training import espresso
from ionraman.training.settings import Espresso


@pytest.mark.parametrize("end", ["kill -9 $$", "kill -TERM $$", "exit 143"])
def test_a_killed_program_is_no_word_on_the_label(tmp_path, end):
    with pytest.raises(espresso.ProgramFailed, match="goes on"):
        espresso._run(f"sh -c '{end}'", "ph", tmp_path)
    espresso._run("sh -c 'echo convergence NOT achieved; exit 3'", "ph", tmp_path)  # here the output decides


def test_a_program_that_could_not_start_is_no_word_either(tmp_path, monkeypatch):
    """As Open MPI without SLURM's PMI does in a SLURM step; alone it is kept from joining it."""
    program = tmp_path / "pw"
    program.write_text("#!/bin/sh\nif [ -n \"$SLURM_JOB_ID\" ]; then echo OMPI was not built with PMI; exit 1; fi\necho JOB DONE\n")
    program.chmod(0o755)
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    with pytest.raises(espresso.ProgramFailed, match="exit code 1 .*not built with PMI"):
        espresso._run(f"env {program}", "scf", tmp_path)
    espresso._run(str(program), "scf", tmp_path)
    assert (tmp_path / "scf.out").read_text() == "JOB DONE\n"


def test_a_finished_response_needs_no_ground_state_on_disk(tmp_path, monkeypatch):
    """A label that stopped after ph.x, its scratch folder gone, runs nothing again; one that stopped before runs both."""
    (tmp_path / "pseudo").mkdir()
    for element in ("Na", "Cl"):
        (tmp_path / f"pseudo/{element}.UPF").write_text('<PP_HEADER z_valence="1.0"/>')
    for name in ("pw.x", "ph.x"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    settings = Espresso(pseudopotentials=str(tmp_path / "pseudo"), pw=str(tmp_path / "pw.x"), ph=str(tmp_path / "ph.x"))
    ran = []

    def run(command, stem, folder):
        ran.append(stem)
        (folder / f"{stem}.out").write_text("convergence has been achieved\nJOB DONE" if stem == "scf" else "stopped")

    monkeypatch.setattr(espresso, "_run", run)
    monkeypatch.setattr(espresso, "_same_configuration", lambda *_: None)
    monkeypatch.setattr(espresso, "read_espresso_ph", lambda _: {1: {"dieltensor": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}})
    atoms = bulk("NaCl", "rocksalt", 5.6)

    class Ground:
        get_potential_energy = staticmethod(lambda: -1.0)
        get_forces = staticmethod(lambda: np.zeros((2, 3)))

    monkeypatch.setattr(ase.io, "read", lambda *_: Ground())
    folder = tmp_path / "label"
    folder.mkdir()
    (folder / "scf.out").write_text("convergence has been achieved\nJOB DONE")
    (folder / "ph.out").write_text("End of electric fields calculation\nJOB DONE")
    assert espresso.label(atoms, folder, settings)["epsilon"][0][0] == 2 and not ran
    (folder / "ph.out").write_text("cut off")
    with pytest.raises(espresso.LabelRejected, match="ph.x did not converge"):
        espresso.label(atoms, folder, settings)
    assert ran == ["scf", "ph"]

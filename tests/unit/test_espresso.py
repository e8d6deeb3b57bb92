"""How Quantum ESPRESSO is run, with shells in its place; the real programs run in tests/train."""

import pytest
from ionraman.training import espresso


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

"""The teacher of the shipped models, TensorNet of the MatPES project; runs in the environment of envs/teacher.txt."""


def calculator(path: str):
    """ASE calculator (eV, A) of the model folder `path`, with stress in eV/A^3, on one thread."""
    import matgl
    import torch
    from matgl.ext.ase import PESCalculator

    torch.set_num_threads(1)
    return PESCalculator(matgl.load_model(path), stress_unit="eV/A3")

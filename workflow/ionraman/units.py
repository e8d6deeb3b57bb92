"""Physical constants in the units of the project: A, ps, eV, K, u, cm^-1 (CODATA 2018, exact where SI is)."""

KB_EV = 8.617333262e-5
"""Boltzmann constant, eV/K."""

HC_OVER_KB_CM_K = 1.438776877
"""Second radiation constant hc/kB, cm K: y = HC_OVER_KB_CM_K * wavenumber_cm / temperature_K."""

C_CM_PER_PS = 0.0299792458
"""Speed of light, cm/ps: a frequency of 1 cm^-1 is C_CM_PER_PS cycles per ps."""

A2_PER_PS_TO_CM2_PER_S = 1.0e-4
"""1 A^2/ps in cm^2/s."""

E_COULOMB = 1.602176634e-19
KB_J = 1.380649e-23

"""Low-frequency Raman intensity and diffusivity of candidate ionic conductors from machine-learned dynamics."""

"""Conditions: denoisers around a denoiser, which each solver serves like any other."""

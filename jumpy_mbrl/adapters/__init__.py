"""Environments and world models in the forms that other libraries want.

Each module is imported by its own name: `sb3` (Stable-Baselines3), `model_env` (Gymnasium), `mpc`
(planners that sample), and, with the extras of their names, `torchrl` and `hub`.
"""

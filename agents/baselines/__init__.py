"""PPO and SAC of Stable-Baselines3, unmodified: named runs, training, and policies as agents."""

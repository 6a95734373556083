"""A world model in ten lines: look at four frames, imagine a shot, see what comes true.

python examples/world_model_in_ten_lines.py
"""

import gymnasium as gym
import torch

from jumpy_mbrl import from_pretrained  # registers the environments too

model = from_pretrained("fold-billiards2d")
env = gym.make("Billiards2DShot-v0")
seen, _ = env.reset(seed=3)
shot = torch.tensor([[0.6, -0.4]])
info = env.step(shot[0].numpy())[-1]

with torch.no_grad():
    state = model.observe(torch.tensor(seen).view(1, 4, 4))  # four frames of two balls
    future = model.imagine(state, times=[10.0, 20.5, info["frames_played"]], action=shot)

print("object ball 10, 20.5 and all frames later:", future.obs[0, :, 2:].tolist())
print(f"where it really was after all {info['frames_played']}:", info["positions"][1].tolist())
print(f"the model ticked {int(future.ticks)} times, at", future.tick_times[0].tolist())

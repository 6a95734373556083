"""Shared by all tests."""

from __future__ import annotations

import os

import torch

os.environ.setdefault("SDL_VIDEODRIVER", "dummy")
# The tests run in several processes side by side; threads of their own would only fight.
torch.set_num_threads(1)

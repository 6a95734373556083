"""Speed: what the environments, training and prediction cost, beside what they are compared with.

What a row compares is measured in the same run, on one core, in turn with its anchor. The best of
several rounds counts, because whatever else the machine does can only slow one down.
"""

from jumpy_mbrl.lab.bench.clock import Clock, Row, describe_device, format_row
from jumpy_mbrl.lab.bench.envs import bench_envs
from jumpy_mbrl.lab.bench.train import bench_train

__all__ = ["Clock", "Row", "bench_envs", "bench_train", "describe_device", "format_row"]

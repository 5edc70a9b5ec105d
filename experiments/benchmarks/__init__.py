"""Speed and memory, alone or against torch_brain: `python -m experiments.benchmarks.speed ...`."""

"""Run by test_processes.py in place of the pretraining script: process 1 takes longer to compile
than the watchdog allows for a step, and hangs after its second step.
"""

import sys
import time

import jax
from pretrain import main

from poyo_jax.train.loop import Run
from poyo_jax.train.setup import TrainStep

push, compile_step = Run.push, TrainStep.compile


def slow(self, state, batch):
    if jax.process_index() == 1 and not self.programs:
        time.sleep(12)
    compile_step(self, state, batch)


def hanging(self, step, metrics):
    push(self, step, metrics)
    if step == 1 and jax.process_index() == 1:
        time.sleep(600)


Run.push, TrainStep.compile = hanging, slow
sys.exit(main())

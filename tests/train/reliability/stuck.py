"""Run by test_processes.py in place of the pretraining script: process 1 hangs after its second
step.
"""

import sys
import time

import jax
from pretrain import main

from poyo_jax.train.loop import Run

push = Run.push


def hanging(self, step, metrics):
    push(self, step, metrics)
    if step == 1 and jax.process_index() == 1:
        time.sleep(600)


Run.push = hanging
sys.exit(main())

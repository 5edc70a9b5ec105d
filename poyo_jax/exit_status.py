"""Exit statuses of every program: a scheduler reads them to decide whether it starts a run again.

They are those of the table in docs/launching.md; experiments/launch/common.sh acts on them.
"""

from poyo_jax.errors import DistributedError, Diverged, Interrupted, PoyoError

FAILED = 1  # crashed, diverged, or the processes of a job did not find each other
MISUSED = 2  # wrong usage, configuration or data: the same command fails again
STOPPED = 42  # stopped early with a good checkpoint: the same command continues
INTERRUPTED = 130  # a second Ctrl-C, or one outside of training
LOST_PEER = 134  # another process of the job is gone
HUNG = 142  # a hung job, ended by its watchdog


def exit_status(error: PoyoError) -> int:
    """Exit status of a program that ends with `error`."""
    if isinstance(error, Interrupted):
        return STOPPED
    if isinstance(error, Diverged | DistributedError):
        return FAILED
    return MISUSED

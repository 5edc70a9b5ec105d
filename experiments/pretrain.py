"""Pretrain a POYO; the launchers start this script. The same as `python -m poyo_jax pretrain`."""

from poyo_jax.cli.pretrain import main

if __name__ == "__main__":
    main()

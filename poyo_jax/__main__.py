"""Run a command: `python -m poyo_jax pretrain ...`; without one, list them."""

from poyo_jax.cli.main import main

if __name__ == "__main__":
    main()

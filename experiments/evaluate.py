"""Decode a split of sessions and score it. The same as `python -m poyo_jax evaluate`."""

from poyo_jax.cli.evaluate import main

if __name__ == "__main__":
    main()

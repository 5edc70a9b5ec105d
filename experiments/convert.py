"""Convert checkpoints of torch_brain, there and back. The same as `python -m poyo_jax convert`."""

from poyo_jax.cli.convert import main

if __name__ == "__main__":
    main()

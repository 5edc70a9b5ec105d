"""Adapt a pretrained model to new sessions. The same as `python -m poyo_jax finetune`."""

from poyo_jax.cli.finetune import main

if __name__ == "__main__":
    main()

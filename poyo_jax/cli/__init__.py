"""Commands of `python -m poyo_jax`: one module each, which holds its options and its work."""

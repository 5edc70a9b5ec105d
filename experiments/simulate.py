"""Write the sessions of a simulated laboratory. The same as `python -m poyo_jax simulate`."""

from poyo_jax.cli.simulate import main

if __name__ == "__main__":
    main()

"""Compilation for tests, which compile much and compute little: XLA takes a fifth of the time it takes otherwise."""

import jax

OPTIONS = {
    "xla_backend_optimization_level": 0,
    "xla_llvm_disable_expensive_passes": True,
    "xla_cpu_use_fusion_emitters": False,
}
FLAGS = " ".join(f"--{name}={str(value).lower()}" for name, value in OPTIONS.items())  # for XLA_FLAGS of a process


def quick_jit(function, **kwargs):
    """jax.jit with these options, which hold for jitted functions inside as well."""
    return jax.jit(function, compiler_options=OPTIONS, **kwargs)

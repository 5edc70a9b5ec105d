"""Scripts of a checkout: the launchers' entry points, the demo, studies, benchmarks and tools."""

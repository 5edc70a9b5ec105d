"""Neural Latents Benchmark: the entries of its sets; each set has its own converter."""

from data_prep import nlb_mc_maze, nlb_mc_rtt

CATALOGUE = (*nlb_mc_maze.CATALOGUE, *nlb_mc_rtt.CATALOGUE)

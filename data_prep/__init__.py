"""Make sessions of raw recordings: the public data sets of POYO, and a lab's own NWB files."""

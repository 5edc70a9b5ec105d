"""From raw recordings to sessions: the public data sets of POYO, and a lab's own NWB files."""

"""The training step compiled for accelerators that are not there, and what it will cost them."""

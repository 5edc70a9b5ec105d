"""Studies of the paper's claims and of our recipe: `python -m experiments.studies.table2 ...`."""

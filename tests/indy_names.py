"""Names of recordings of one monkey, which tell their days."""

NAMES = ("indy_20161003_01", "indy_20161024_03", "indy_20161207_02")

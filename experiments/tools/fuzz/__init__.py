"""Fuzzers: damaged and hostile files must give the right value or a sentence."""

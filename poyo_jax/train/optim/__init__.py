"""Optimisers: `choose.py` picks one; the rest are its schedules, update rules and wrappers."""

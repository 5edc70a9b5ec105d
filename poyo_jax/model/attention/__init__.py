"""Attention: the choice of a back end (api.py) and the back ends."""

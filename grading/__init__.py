"""Loads notebooks, and later: checks, scores and reports. Knows of no lab in particular."""

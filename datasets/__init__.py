"""Where data begins: the profile, the event contract, the generator, the star schema, the oracle.

This package knows no other part of the course. What stands behind its rows: people who were hurt.
"""

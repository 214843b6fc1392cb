"""Loads notebooks, checks what they define on real services, scores and reports. Knows of no lab in particular.

In a notebook: from grading import check, check_all
"""

__all__ = ["check", "check_all"]


def __getattr__(name: str):
    """check and check_all, loaded when a notebook asks for them: the far side of the boundary never needs them."""
    if name in __all__:
        from grading import ask

        ask.warm_up()
        return getattr(ask, name)
    raise AttributeError(f"module 'grading' has no attribute {name!r}")

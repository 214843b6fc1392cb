"""Loads notebooks, checks what they define on real services, scores and reports. Knows of no lab in particular.

In a notebook: grading.begin(), grading.hint("02.3"), from grading import check, check_all
"""

_NOTEBOOK = {"begin": "board", "check": "ask", "check_all": "ask", "hint": "hints"}
__all__ = list(_NOTEBOOK)


def __getattr__(name: str):
    """What notebooks use, loaded when one asks for it: the far side of the boundary never needs it."""
    if name not in _NOTEBOOK:
        raise AttributeError(f"module 'grading' has no attribute {name!r}")
    import importlib

    from grading import ask

    ask.warm_up()
    return getattr(importlib.import_module(f"grading.{_NOTEBOOK[name]}"), name)

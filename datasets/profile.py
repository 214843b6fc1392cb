"""The measured profile: what 3,229 real accidents looked like (profile.json beside this file).

Source: Road Traffic Collisions 2017 and 2018, Cambridgeshire County Council, with STATS19 code lists.
"""

import json
from functools import cache
from pathlib import Path

PATH = Path(__file__).with_name("profile.json")


@cache
def profile() -> dict:
    """The whole profile as one dict, read once. Shares are fractions of 1; treat it as read-only."""
    return json.loads(PATH.read_text(encoding="utf-8"))

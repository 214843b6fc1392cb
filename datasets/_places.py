"""Invented places, described in the style of the police: capitals, road numbers, junctions, stray spaces.

Street names are made of two word lists, so none is meant to be a real street.
"""

from random import Random


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_NAMES = _words(
    "ALDER ASH BARLEY BEECH BISHOPS BRAMBLE BRIDGE BROOK CASTLE CHAPEL CHERRY CHURCH CLOVER COMMON CROW DOVE "
    "EEL ELM FALCON FERRY FISHERS FOX GRANGE GREBE GULL HARVEST HAWTHORN HERON HIGH HOLLY KING'S LAUREL "
    "LINNET LODE LONG MARKET MEADOW MILL NEW NORTH OLD ORCHARD OSIER OTTER PARK PLOUGH POPLAR PRIORY QUEEN'S "
    "REED RIVER ROWAN SCHOOL SEDGE SOUTH STATION SWAN TOLL WATER WEST WHEAT WILLOW WINDMILL"
)
_KINDS = _words("ROAD ROAD ROAD ROAD STREET STREET STREET LANE LANE WAY AVENUE DRIVE HILL DROVE BANK CLOSE")
_MAIN_ROADS = _words("A1 A10 A14 A16 A47 A141 A142 A428 A505 A605 A1101 A1123 A1198 A1303 A1307 A1309")
_MINOR_ROADS = _words("B1040 B1043 B1046 B1049 B1050 B1090 B1096 B1102")
_LINKS = ("AT JN WITH", "AT JN WITH", "AT JN WITH", "NEAR JN WITH", "AT JUNCTION WITH")
_ACCENTED = ("OUTSIDE CAFÉ LUMIÈRE", "CHÂTEAU MEWS", "OPPOSITE PÂTISSERIE ZOË", "BJÖRK YARD")


def location(rng: Random, speed_limit: int) -> str:
    """One description, 2 to about 60 characters; fast roads tend to have a number."""
    text = _on(rng, numbered=0.65 if speed_limit > 40 else 0.25)
    if rng.random() < 0.62:
        text = f"{text} {_pick(rng, _LINKS)} {_on(rng, numbered=0.1)}"
    u = rng.random()
    if u < 0.037:  # 120 of the 3,229 real texts hold a double space
        return text.replace(" ", "  ", 1)
    if u > 0.997:  # one real text has an accent; a few more, so that a small sample has one
        return f"{_pick(rng, _ACCENTED)} {text}"
    return text


def _on(rng: Random, numbered: float) -> str:
    """A street, a numbered road, or both."""
    u = rng.random()
    if u >= numbered:
        return _street(rng)
    road = _pick(rng, _MAIN_ROADS if rng.random() < 0.8 else _MINOR_ROADS)
    return road if u < numbered * 0.12 else f"{_street(rng)} {road}"


def _street(rng: Random) -> str:
    return f"{_pick(rng, _NAMES)} {_pick(rng, _KINDS)}"


def _pick(rng: Random, items):
    return items[int(rng.random() * len(items))]

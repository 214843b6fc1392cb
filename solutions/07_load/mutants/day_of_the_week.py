"""07.1: "day" is the day of the week, and its name is a short one."""

FAILS = [
    "test_07_1_days_and_minutes_are_their_own_key",
    "test_07_1_the_frame_s_own_index_means_nothing",
]

_right = to_star


def to_star(frame):
    star = _right(frame)
    day = pd.to_datetime(star["dim_date"]["date"]).dt
    star["dim_date"] = star["dim_date"].assign(day=day.dayofweek, day_name=day.day_name().str[:3])
    return star

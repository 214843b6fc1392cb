"""The council's real files become events, all 3,229 of them, word for word."""

from collections import Counter

import pytest

from datasets._wire import encode
from datasets.council import COLUMNS, FILES, council_events, council_records
from datasets.events import Rates
from datasets.oracle import Oracle
from datasets.profile import profile

HEADER = "Date,Police_ref,Easting,Northing,Time\n"


@pytest.fixture(scope="module")
def real_events(real_data) -> list[dict]:
    """Every accident of both files."""
    return list(council_events(real_data))


def test_all_accidents_of_both_years_are_valid_events(real_events, judge):
    """3,229 events, none of which breaks a rule."""
    assert Counter(event["Date"][:4] for event in real_events) == {"2017": 1427, "2018": 1802}
    assert {judge(encode(event)) for event in real_events} == {None}


def test_they_come_in_order_of_event_time(real_events):
    """The real accidents can be replayed as a stream."""
    times = [event["event_time"] for event in real_events]
    assert times == sorted(times)


def test_lost_zeros_come_back_and_codes_go(real_events):
    """2017 wrote 00:04 as 4; labels have no code; "None" is a label; locations stay as they are."""
    assert min(event["Time"] for event in real_events if event["Date"] < "2018") < "00:10"
    assert {event["Severity"] for event in real_events} == {"Slight", "Serious", "Fatal"}
    assert Counter(event["Cross_ctrl"] for event in real_events)["None"] == 3215
    assert sum("  " in event["Location"] for event in real_events) == profile()["location_text"]["double_space"]
    assert sum(event["Location"] != event["Location"].strip() for event in real_events) == 2


def test_the_dimensions_have_their_true_sizes(real_data):
    """Duplicates, late ones and poison change no fact: 704, 931, 3, 197, 13 and 3,229 members remain."""
    oracle, clean = Oracle(), Oracle()
    for record in council_records(real_data, seed=1, rates=Rates(revision=0.5, unknown_field=0.5)):
        oracle.add(record)
    for record in council_records(real_data, seed=2, rates=Rates(0, 0, 0, 0, 0)):
        clean.add(record)
    sizes = {
        "dim_date": 704,
        "dim_time": 931,
        "dim_location": 3229,
        "dim_severity": 3,
        "dim_road_condition": 197,
    }
    assert oracle.dimension_sizes() == sizes | {"dim_crossing": 13}
    assert oracle.checksum() == clean.checksum()
    assert (oracle.counts.inserted, oracle.counts.updated, oracle.counts.stale) == (3229, 0, 0)


def test_poison_among_real_accidents_steals_none_of_them(real_data, real_events):
    """At the highest rate no poison key is a real reference."""
    real = {event["Police_ref"].encode() for event in real_events}
    records = council_records(real_data, seed=1, rates=Rates(poison=1))
    assert [record.key for record in records if record.reason and record.key in real] == []


def test_a_missing_folder_says_what_to_do(tmp_path):
    """One sentence: what is missing, where, and what to put there."""
    with pytest.raises(ValueError, match=r"2017_0\.xlsx is missing: put the council's files"):
        council_events(tmp_path / "nowhere")


def test_a_broken_file_says_what_to_do(tmp_path):
    """A file that is no workbook is named, with the way out."""
    (tmp_path / FILES[0]).write_bytes(b"not a workbook")
    with pytest.raises(ValueError, match=r"cannot be read .*: download it again"):
        council_events(tmp_path)


def test_a_missing_column_is_named(tmp_path):
    """The first column that is not there stands in the sentence."""
    pd = pytest.importorskip("pandas")
    pd.DataFrame(columns=HEADER.strip().split(",")).to_excel(tmp_path / FILES[0], index=False)
    with pytest.raises(ValueError, match="has no column Location"):
        council_events(tmp_path)


def test_a_cell_that_cannot_be_read_is_named_with_its_accident(tmp_path):
    """The sentence says which file and which accident."""
    pd = pytest.importorskip("pandas")
    row = dict.fromkeys(COLUMNS, "1") | {"Date": "20170230", "Police_ref": "17000001", "Time": "4"}
    pd.DataFrame([row]).to_excel(tmp_path / FILES[0], index=False)
    with pytest.raises(ValueError, match=r"2017_0\.xlsx, accident 17000001: day is out of range"):
        council_events(tmp_path)

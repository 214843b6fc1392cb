"""The contract and the profile agree with each other and with the words of the course."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import datasets
from datasets.profile import profile
from datasets.schema import DEAD_LETTER_SUFFIX, EVENT_FIELDS, REASONS, TOPIC

NAMES = (
    "event_id schema_version revision event_time Date Time Easting Northing Location Local_Auth Severity "
    "Road_cond Weather Visibility Speed_Lim Cross_fac Cross_ctrl Police_ref Casualties OAPs Children Cycles "
    "P2W Pedestrian Vehicles"
)
CODES = "tombstone malformed missing_field unknown_version bad_time bad_label out_of_range impossible wrong_id"


def test_the_event_has_its_25_fields_in_order():
    """The contract lists the fields by name and in the order in which events are written."""
    assert " ".join(field.name for field in EVENT_FIELDS) == NAMES


def test_every_field_says_what_it_is():
    """Each field has one of two types and a meaning."""
    assert {field.type for field in EVENT_FIELDS} == {"string", "int"}
    assert [field.name for field in EVENT_FIELDS if not field.meaning] == []


def test_reasons_stand_in_the_order_of_judging():
    """The nine reasons are listed from the first to be judged to the last."""
    assert " ".join(code for code, _ in REASONS) == CODES
    assert max(len(code) for code, _ in REASONS) <= 20


def test_topics_have_their_names():
    """The topic and its dead letters are named once, here."""
    assert (TOPIC, TOPIC + DEAD_LETTER_SUFFIX) == ("raw_accidents", "raw_accidents.dead")


def test_every_label_of_the_profile_is_a_label_of_the_contract():
    """No spelling that the real rows have is missing from the lists of labels."""
    shares = profile()["value_shares_all"]
    listed = {field.name: field.labels for field in EVENT_FIELDS if field.labels}
    unknown = {name: set(shares[name]) - set(labels) for name, labels in listed.items()}
    assert unknown == {name: set() for name in listed}


def test_every_speed_limit_of_the_profile_is_allowed():
    """The contract's speed limits hold those of the real rows."""
    allowed = next(field.values for field in EVENT_FIELDS if field.name == "Speed_Lim")
    assert {int(mph) for mph in profile()["value_shares_all"]["Speed_Lim"]} <= set(allowed)


def test_the_profile_names_its_source_and_nothing_else():
    """The profile's source is the council's data."""
    assert profile()["source"]["rows"] == {"2017": 1427, "2018": 1802, "all": 3229}
    assert set(profile()["source"]) == {"what", "rows", "columns"}


def test_importing_the_contract_loads_no_pandas():
    """The contract, the star and the generator start without the heavy libraries."""
    code = "import sys, datasets.star, datasets.events; print(sorted({'pandas', 'typer'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("path", sorted(Path(datasets.__file__).parent.glob("*.py")), ids=lambda path: path.name)
def test_datasets_knows_nobody(path):
    """Each file imports the standard library and datasets; nine files import more, each what it needs."""
    more = {
        "council.py": {"pandas"},
        "yearly.py": {"openpyxl"},
        "files.py": {"openpyxl"},
        "__main__.py": {"typer", "rich"},
        "event_times.py": {"altair", "pandas"},
        "plans.py": {"pandas"},
        "columns.py": {"pyspark"},
        "spark_years.py": {"pyspark"},
        "pictures.py": {"altair", "pandas", "vl_convert", "IPython", "sqlalchemy"},
    }
    assert _imports(path) - set(sys.stdlib_module_names) <= {"datasets"} | more.get(path.name, set())


def _imports(path: Path) -> set[str]:
    """The top-level packages that the file imports, also inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names

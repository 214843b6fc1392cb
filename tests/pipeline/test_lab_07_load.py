"""Lab 07: a yearly file is loaded whole or not at all, and once."""

import shutil
import threading

import pandas as pd
import pytest
import sqlalchemy as sa

from datasets.oracle import Oracle
from datasets.star import TABLES
from datasets.yearly import corrected_rows, write_year, yearly_rows
from grading.notebook import earlier
from services import faults

lab, clean, warehouse = earlier("07"), earlier("05"), earlier("06")
ROWS = 220


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The file of 2019 and its corrected issue, each with its rows."""
    folder = tmp_path_factory.mktemp("yearly")
    first = yearly_rows(2019, ROWS, 4, live_records=300)
    made = {folder / "collisions-2019.csv": first, folder / "collisions-2019-r2.csv": corrected_rows(first, 4)}
    for path, rows in made.items():
        write_year(path, rows)
    return made


def events(rows) -> list[dict]:
    """The good ones."""
    return [row.event for row in rows if row.event]


def contents(pipeline) -> dict[str, list]:
    """Every row of every table, so that "untouched" can be seen."""
    with pipeline.engine.connect() as connection:
        return {name: sorted(map(repr, connection.execute(sa.text(f"SELECT * FROM {name}")))) for name in TABLES}


def facts(pipeline) -> str:
    """The facts' checksum."""
    with pipeline.engine.connect() as connection:
        return pipeline.checksum(connection)


def test_a_file_is_loaded_and_the_same_bytes_again_change_nothing(pipeline, files, tmp_path):
    """Counts as told; the ledger knows the bytes whatever their name; no row of any table changes."""
    path, rows = next(iter(files.items()))
    oracle = Oracle()
    expected = oracle.add_file(path.name, events(rows))
    result = lab.load_file(pipeline.engine, path)
    assert (result.inserted, result.updated, result.unchanged) == (expected.inserted, 0, 0)
    assert (result.records_read, result.rejected) == (len(rows), len(rows) - len(events(rows)))
    assert facts(pipeline) == oracle.checksum()
    before = contents(pipeline)
    copy = tmp_path / "another name.csv"
    shutil.copy(path, copy)
    again = lab.load_file(pipeline.engine, copy)
    assert again.already_loaded
    assert (again.inserted, again.records_read) == (result.inserted, result.records_read)
    assert contents(pipeline) == before


def test_a_corrected_file_changes_only_what_differs(pipeline, files):
    """Rows that say the same keep the moment at which they were taken in."""
    (first, rows), (second, better) = files.items()
    oracle = Oracle()
    oracle.add_file(first.name, events(rows))
    lab.load_file(pipeline.engine, first)
    with pipeline.engine.connect() as connection:
        before = dict(connection.execute(sa.text("SELECT police_ref, ingested_at_utc FROM fact_incident")).all())
    expected = oracle.add_file(second.name, events(better))
    result = lab.load_file(pipeline.engine, second)
    assert (result.inserted, result.updated, result.unchanged) == (expected.inserted, expected.updated, expected.unchanged)
    assert min(expected.inserted, expected.updated, expected.unchanged) > 0
    with pipeline.engine.connect() as connection:
        after = dict(connection.execute(sa.text("SELECT police_ref, ingested_at_utc FROM fact_incident")).all())
    assert sum(after[reference] == moment for reference, moment in before.items()) == expected.unchanged
    assert facts(pipeline) == oracle.checksum()


def test_an_earlier_issue_that_comes_late_changes_nothing(pipeline, files):
    """The second issue is there: the first is superseded, and says so."""
    first, second = files
    lab.load_file(pipeline.engine, second)
    before = contents(pipeline)
    assert lab.load_file(pipeline.engine, first).superseded
    assert contents(pipeline) == before


def test_the_same_year_in_another_format_is_the_same(pipeline, tmp_path):
    """A .jsonl and a .json of the same accidents: all unchanged."""
    rows = yearly_rows(2021, 90, 2)
    write_year(tmp_path / "a.jsonl", rows)
    first = lab.load_file(pipeline.engine, tmp_path / "a.jsonl")
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    (tmp_path / "b.json").write_text('{"title": "the same", "year": 2021, "collisions": [' + ",\n".join(lines) + "]}")
    second = lab.load_file(pipeline.engine, tmp_path / "b.json")
    assert (second.inserted, second.updated, second.unchanged, second.rejected) == (0, 0, first.inserted, first.rejected)


@pytest.mark.parametrize(
    "table", ["dim_date", "dim_time", "dim_location", "dim_severity", "dim_road_condition", "dim_crossing", "fact_incident", "file_ledger"]
)
def test_a_crash_at_any_table_leaves_nothing(pipeline, files, table):
    """The statement that inserts into the table fails: every table is as it was. Then the load is repeated and is whole."""
    path, rows = next(iter(files.items()))
    before = contents(pipeline)

    def fail(connection, cursor, statement, parameters, context, many) -> None:
        if statement.lstrip().upper().startswith("INSERT") and f" {table} " in statement.replace("\n", " ").replace("(", " "):
            raise RuntimeError("crash on purpose")

    sa.event.listen(pipeline.engine, "before_cursor_execute", fail)
    with pytest.raises(RuntimeError, match="crash on purpose"):
        lab.load_file(pipeline.engine, path)
    sa.event.remove(pipeline.engine, "before_cursor_execute", fail)
    assert contents(pipeline) == before
    assert lab.load_file(pipeline.engine, path).records_read == len(rows)


def test_mysql_killed_in_mid_load_leaves_nothing(pipeline, files, healthy_stack, monkeypatch):
    """SIGKILL before the commit; after the restart all tables are as they were, and the load runs through."""
    path, rows = next(iter(files.items()))
    before, finish = contents(pipeline), lab.finish

    def die(*words):
        faults.kill("mysql")
        return finish(*words)

    monkeypatch.setattr(lab, "finish", die)
    with pytest.raises(sa.exc.DBAPIError):
        lab.load_file(pipeline.engine, path)
    monkeypatch.undo()
    faults.start("mysql")
    pipeline.engine.dispose()
    assert contents(pipeline) == before
    assert lab.load_file(pipeline.engine, path).records_read == len(rows)


def test_two_loaders_at_once_load_a_file_once(pipeline, files):
    """Both start together, on the same and on another file: one loads, one finds it loaded."""
    paths = list(files)
    results, start = [], threading.Barrier(4)

    def work(path) -> None:
        start.wait()
        results.append((path, lab.load_file(pipeline.engine, path)))

    threads = [threading.Thread(target=work, args=(path,)) for path in (paths * 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(results) == 4
    assert sum(not (result.already_loaded or result.superseded) for path, result in results if path == paths[1]) == 1
    oracle = Oracle()
    for path, rows in files.items():
        oracle.add_file(path.name, events(rows))
    assert facts(pipeline) == oracle.checksum()


def bad_files(folder):
    """Files that cannot be used, by what is wrong with them."""
    good = "collisions-2019.csv"
    write_year(folder / good, yearly_rows(2019, 40, 4, live_records=300))
    text = (folder / good).read_text(encoding="utf-8")
    lines = text.splitlines(keepends=True)
    made = {
        "empty": ("empty.csv", b""),
        "cut off": ("cut.csv", text[: len(text) - 150].encode()),
        "cp1252": ("ansi.csv", (lines[0] + lines[1].replace("E07", "CAF\u00c9 E07", 1) + "".join(lines[2:])).encode("cp1252", "replace")),
        "renamed column": ("renamed.csv", text.replace('"Severity"', '"Severety"', 1).encode()),
        "header twice": ("twice.csv", (text + text).encode()),
        "a zip": ("zip.xlsx", _zip()),
        "half a JSON": ("half.json", b'{"title": "x", "year": 2020, "collisions": [{"Police_ref": "20500000", "when": {"Date": 20'),
        "half a JSON line": ("half.jsonl", b'{"Police_ref": "20500000", "Date": 20200101'),
        "two years": ("two.csv", "".join([*lines[:5], lines[5].replace("2019", "2018", 1)]).encode()),
        "unknown kind": ("data.parquet", b"PAR1"),
    }
    for name, (file, content) in made.items():
        (folder / file).write_bytes(content)
        yield name, folder / file
    with open(folder / "long.csv", "wb") as file:
        file.truncate(2**30)
    yield "1 GB in one line", folder / "long.csv"
    yield "missing", folder / "nowhere.csv"


def _zip() -> bytes:
    import io
    import zipfile

    with zipfile.ZipFile(buffer := io.BytesIO(), "w") as archive:
        archive.writestr("letter.txt", "no workbook")
    return buffer.getvalue()


@pytest.mark.parametrize("engine", ["pandas", "spark"])
def test_bad_files_are_answered_by_one_sentence_and_touch_nothing(pipeline, request, tmp_path, engine):
    """Whatever is wrong, with either engine: a ValueError that names the file, in one line; every table as it was."""
    spark = request.getfixturevalue("spark") if engine == "spark" else None
    before = contents(pipeline)
    seen = {}
    for name, path in bad_files(tmp_path):
        with pytest.raises(ValueError) as caught:
            pipeline.run_batch([path], spark)
        seen[name] = str(caught.value)
        assert path.name in seen[name], name
        assert "\n" not in seen[name], name
        assert len(seen[name]) < 400, name
    assert len(seen) == 12
    assert contents(pipeline) == before


def test_to_star_gives_distinct_members_and_a_row_for_each_accident(files):
    """Seven frames; hashes are lab 06's."""
    path, rows = next(iter(files.items()))
    good, _ = clean.split_valid(clean.conform(clean.read_collisions(path)))
    star = lab.to_star(good)
    assert len(star) == 7
    assert len(star["fact_incident"]) == len(events(rows))
    oracle = Oracle("file")
    oracle.add_file(path.name, events(rows))
    assert {name: len(frame) for name, frame in star.items() if name != "fact_incident"} == oracle.dimension_sizes()
    assert all(row.severity_hash == warehouse.key_hash(row.severity) for row in star["dim_severity"].itertuples())
    assert isinstance(good, pd.DataFrame)

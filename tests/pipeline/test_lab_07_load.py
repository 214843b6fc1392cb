"""Lab 07: a yearly file is loaded whole or not at all, and once."""

import shutil
import subprocess
import sys
import threading

import pandas as pd
import pytest
import sqlalchemy as sa

from datasets.oracle import Oracle
from datasets.star import TABLES
from datasets.yearly import corrected_rows, write_year, yearly_rows
from grading.checks import eventually
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


def test_a_killed_loader_leaves_nothing(pipeline, files):
    """SIGKILL in the middle of its transaction, which is held up at the fourth table: every table is as it was, and another loader loads all."""
    path, rows = next(iter(files.items()))
    before = contents(pipeline)
    held = pipeline.engine.connect()
    severity = next(event["Severity"] for event in events(rows))
    row = {"hash": warehouse.key_hash(severity), "severity": severity}
    held.execute(sa.text("INSERT INTO dim_severity (severity_hash, severity) VALUES (:hash, :severity)"), row)
    url = pipeline.engine.url.render_as_string(hide_password=False)
    code = "import sys, sqlalchemy; from grading.notebook import earlier; earlier('07').load_file(sqlalchemy.create_engine(sys.stdin.readline().strip()), sys.argv[1])"
    loader = subprocess.Popen([sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, text=True)
    loader.stdin.write(f"{url}\n")
    loader.stdin.flush()
    admin = sa.create_engine(pipeline.settings.mysql_url("admin", ""), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with admin.connect() as outside:
        eventually(lambda: outside.execute(sa.text("SELECT COUNT(*) FROM performance_schema.data_lock_waits")).scalar(), 30, wanted=1)
        loader.kill()
        loader.wait()
        held.rollback()
        held.close()
        # Not innodb_trx: it shows a copy, renewed only after 0.1 s in which nobody asked; a poll that asks more often sees its first answer for ever.
        locks = sa.text("SELECT COUNT(*) FROM performance_schema.data_locks")
        eventually(lambda: outside.execute(locks).scalar(), 30, wanted=0)
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


def test_a_file_that_changes_while_it_is_read_is_refused(pipeline, files, tmp_path, monkeypatch):
    """Somebody writes to it between the first look and the last: ValueError, and no table has changed."""
    path = tmp_path / "collisions-2019.csv"
    shutil.copy(next(iter(files)), path)
    before, conform = contents(pipeline), clean.conform

    def meanwhile(frame):
        with open(path, "a", encoding="utf-8") as file:
            file.write("\n")
        return conform(frame)

    monkeypatch.setattr(clean, "conform", meanwhile)
    with pytest.raises(ValueError, match="changed while it was read"):
        lab.load_file(pipeline.engine, path)
    assert contents(pipeline) == before


def test_a_row_too_large_for_the_server_is_a_lost_connection(pipeline):
    """66 MB in one row: over TLS the driver cannot tell it from a lost connection, which is why `cleaned` refuses such a record before. Nothing of it is there."""
    row = pd.DataFrame([{"fingerprint": "a" * 64, "line": 1, "police_ref": "", "reason": "x", "raw": "x" * (66 << 20)}])
    with pytest.raises(sa.exc.OperationalError) as caught, pipeline.engine.begin() as connection:
        lab.put(connection, "file_rejects", row.assign(raw="small", line=2))
        lab.put(connection, "file_rejects", row)
    assert caught.value.orig.args[0] in lab.RETRIED | {1153}
    assert contents(pipeline)["file_rejects"] == []


def test_a_member_is_hashed_once(files, monkeypatch):
    """However often it comes, its hash is computed once, and every row has the right one."""
    good, _ = clean.split_valid(clean.conform(clean.read_collisions(next(iter(files)))))
    asked, key_hash = [], warehouse.key_hash
    monkeypatch.setattr(warehouse, "key_hash", lambda *parts: asked.append(parts) or key_hash(*parts))
    found = lab.hashes(good)
    assert len(asked) == sum(column.nunique() for column in found.values())
    assert list(found["severity_hash"]) == [key_hash(severity) for severity in good["severity"]]

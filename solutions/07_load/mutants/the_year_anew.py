"""07.3: takes the year out and puts it in again: right rows, but all of them new from today, and nobody knows what was corrected."""

FAILS = ["test_07_3_a_corrected_file_changes_what_differs"]


def load_file(engine, path, encoding="utf-8"):
    file, good, rejects = cleaned(path, encoding)

    def work(connection):
        connection.execute(sa.text(ONE_WRITER))
        known = nothing_to_do(connection, file)
        if known:
            return known
        whole_year = "DELETE FROM fact_incident WHERE YEAR(event_time_local) = :year"
        connection.execute(sa.text(whole_year), {"year": file.year})
        return finish(connection, file, write_star(connection, file, good), rejects)

    return retried(engine, work)

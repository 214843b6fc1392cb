"""10.4: an empty batch is left out: the ledger has a gap, and nobody can tell it from a batch that was lost."""

FAILS = ["test_10_4_an_empty_batch_is_noted"]

_right = make_sink


def make_sink(settings, after_merge=lambda batch_id, result: None):
    right = _right(settings, after_merge)

    def sink(batch, batch_id):
        if not batch.isEmpty():
            right(batch, batch_id)

    return sink

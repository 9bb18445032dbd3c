import pytest

from agent.rules.engines import unknown

EDGE = "qdrant-edge-py 0.9.0"
VARIANT = "unknown variant `on_disk`, expected `mmap`"


@pytest.mark.parametrize(
    ("engine", "made_by", "words", "why"),
    [
        (EDGE, "1.18.3", VARIANT, ""),
        (EDGE, "1.17.0", "anything", ""),
        (EDGE, "1.16.3", "anything", ""),
        (EDGE, "1.16.3", VARIANT, "it was made by 1.16.3, which may keep it in RocksDB"),
        (
            EDGE,
            "1.15.5",
            "",
            "it was made by 1.15.5, and qdrant-edge-py 0.9.0 is known to open what servers 1.16 to 1.19",
        ),
        (EDGE, "1.20.1", "", "it was made by 1.20.1"),
        (EDGE, "2.0.0", "", "it was made by 2.0.0"),
        (EDGE, "", "anything", ""),
        (EDGE, "", VARIANT, "nothing says which version made it"),
        (EDGE, "", "RocksDB error", "nothing says which version made it"),
        (EDGE, "dev", "missing field `x`", "nothing says which version made it"),
        (EDGE, EDGE, VARIANT, ""),
        (EDGE, "qdrant-edge-py 0.8.0", VARIANT, ""),
        (EDGE, "qdrant-edge-py 0.10.0", VARIANT, "nothing says"),
        ("Qdrant 1.18.3 at http://localhost", "1.17.1", "", ""),
        ("Qdrant 1.18.3 at http://localhost", "1.18.9", "", ""),
        ("Qdrant 1.18.3 at http://localhost", "1.16.3", "", "known to open what servers 1.17 to 1.18 have made"),
        ("Qdrant 1.18.3 at http://localhost", "1.19.0", "", "it was made by 1.19.0"),
        ("", "1.18.3", "", "it was made by 1.18.3"),
    ],
)
def test_an_engine_may_not_know_a_format(engine, made_by, words, why):
    assert (
        unknown(engine, made_by, words).startswith(why)
        if why.startswith("it")
        else why in unknown(engine, made_by, words)
    )
    assert bool(unknown(engine, made_by, words)) == bool(why)

import hashlib
import os
import subprocess
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.rules.archive import Promise
from agent.rules.checksums import SUMS, is_checksum_file, line, parse, promises_of

A, B = "0123456789abcdef" * 4, "fedcba9876543210" * 4

# What a file may be called that another program made. "-" is stdin to coreutils, and those before 9.0 do not escape
# a carriage return.
hostile = (
    st.one_of(
        st.binary(min_size=1, max_size=40),
        st.text("ab \\\n#*-=()é", min_size=1, max_size=12).map(str.encode),
    )
    .map(lambda name: name.translate(None, b"\0/\r"))
    .filter(lambda name: name not in {b"", b"-", b".", b".."})
)
NASTY = [
    b"plain.gz",
    b" leading and trailing ",
    b"*star",
    b"new\nline",
    b"back\\slash\\n",
    b"\xff\xfe not UTF-8",
    b"-z",
    b"# comment",
    b"SHA256 (x) = " + A.encode(),
    b"a) = b",
    b"\\",
    "Größe".encode(),
]


def sha256sum(*args: str | bytes, cwd: str) -> bytes:
    return subprocess.run(["sha256sum", *args], cwd=cwd, capture_output=True, check=True).stdout


def fill(folder: str, names: list[bytes]) -> dict[str, str]:
    """Write a file of each name, and return its SHA-256 by name."""
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(name)
    return {os.fsdecode(name): hashlib.sha256(name).hexdigest() for name in names}


@pytest.mark.parametrize("mode", [["--text"], ["--binary"], ["--tag"]])
@settings(max_examples=25, deadline=None)
@given(names=st.lists(hostile, min_size=1, max_size=8, unique=True))
@example(names=NASTY)
def test_what_coreutils_writes_about_any_file_is_read_back(mode: list[str], names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = fill(folder, names)
        sums = parse(sha256sum(*mode, "--", *names, cwd=folder), SUMS)
    assert sums.promised == expected
    assert sums.problems == ()


@settings(max_examples=25, deadline=None)
@given(st.lists(hostile, min_size=1, max_size=8, unique=True))
@example(NASTY)
def test_coreutils_accept_what_we_write_and_would_write_the_same(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        expected = fill(folder, names)
        ours = b"".join(line(sha, name) for name, sha in expected.items())
        theirs = sha256sum("--", *expected, cwd=folder)
        with tempfile.NamedTemporaryFile() as sums:
            sums.write(ours)
            sums.flush()
            sha256sum("--check", "--strict", sums.name, cwd=folder)
    assert ours == theirs


@given(st.binary(min_size=1).map(lambda name: name.replace(b"\0", b"\r")).map(os.fsdecode))
@example("ends in a carriage return\r")
def test_every_line_we_write_is_read_back(name: str) -> None:
    if name.startswith("./"):
        name = name.lstrip("./") or "x"
    assert parse(line(A, name), SUMS).promised == {name: A}
    assert line(A, name).count(b"\n") == 1


@given(st.binary(max_size=300), st.sampled_from([SUMS, "c.gz.sha256", "\udcff.sha256"]))
@example(A.encode() + b"  a\0" + B.encode() + b"  b\0", SUMS)
@example(A.encode() + b"\n", SUMS)
def test_no_bytes_whatsoever_are_too_much_for_the_reader(data: bytes, source: str) -> None:
    promised, problems = promises_of(data, source)
    for name, promise in promised.items():
        assert name
        assert "/" not in name
        assert "\0" not in name
        assert len(promise.sha256 or "") == 64
        assert promise.size is None
    assert all(one.isprintable() for one in problems)


@pytest.mark.parametrize(
    ("data", "promised"),
    [
        (f"{A}  c.gz\n", {"c.gz": A}),
        (f"{A} *c.gz", {"c.gz": A}),
        (f"{A}  c.gz\r\n{B}  d.gz\r\n", {"c.gz": A, "d.gz": B}),
        (f"{A.upper()}  c.gz\n", {"c.gz": A}),
        (f"# made by hand\n\n{A}  ./c.gz\n", {"c.gz": A}),
        (f"{A}  ././c.gz\n", {"./c.gz": A}),
        (f"{A}\n", {"": A}),
        (f"SHA256 (./c.gz) = {A.upper()}\n", {"c.gz": A}),
        (f"\\SHA256 (c\\\\\\n.gz) = {A}\n", {"c\\\n.gz": A}),
        (f"\\{A}  c\\r\\n\\\\n\n", {"c\r\n\\n": A}),
        (f"{A}  c\\n\n", {"c\\n": A}),
        (f"{A}  c.gz\n{B}  c.gz\n", {"c.gz": B}),
        (f"{A}   c.gz\n{A}  *c.gz\n", {" c.gz": A, "*c.gz": A}),
    ],
)
def test_each_form_of_a_line_is_read(data: str, promised: dict[str, str]) -> None:
    sums = parse(data.encode(), SUMS)
    assert sums.promised == promised
    assert sums.problems == ()


@pytest.mark.parametrize(
    "text",
    [
        "hello",
        A[1:] + "  c.gz",
        A + "0  c.gz",
        A[1:] + "g  c.gz",
        A + " c.gz",
        A + "  ",
        A + "\tc.gz",
        "c.gz  " + A,
        "MD5 (c.gz) = " + A,
        "SHA256 (c.gz) = " + A[1:],
        "SHA256 (c.gz) = " + A + "0",
        "SHA256 () = " + A,
        A + "  c.gz\0",
        f"SHA256 (c\0gz) = {A}",
    ],
)
def test_a_line_that_cannot_be_read_is_named_by_its_number(text: str) -> None:
    sums = parse(f"{A}  a\n{text}\n{B}  b\n".encode(), SUMS)
    assert sums.promised == {"a": A, "b": B}
    assert sums.problems == ("SHA256SUMS line 2 is no checksum line",)


def test_a_file_of_nothing_but_rubbish_takes_no_more_memory_for_it() -> None:
    assert len(parse(b"x\n" * 100_000, SUMS).problems) == 10


def test_lines_that_end_in_nul_are_a_problem_and_no_promise(tmp_path: object) -> None:
    fill(str(tmp_path), [b"a", b"b"])
    promised, problems = promises_of(sha256sum("--zero", "a", "b", cwd=str(tmp_path)), SUMS)
    assert (promised, problems) == ({}, ("SHA256SUMS line 1 is no checksum line",))


def test_sums_speak_only_of_named_neighbours() -> None:
    data = f"{A}  c.gz\n{A}  daily/d.gz\n{A}  /backups/e.gz\n{A}  ../f.gz\n".encode()
    assert promises_of(data, SUMS) == ({"c.gz": Promise(SUMS, A)}, ())


def test_a_sum_without_a_name_promises_nothing_among_many() -> None:
    promised, problems = promises_of(f"{A}\n{B}  c.gz\n".encode(), SUMS)
    assert promised == {"c.gz": Promise(SUMS, B)}
    assert problems == ("SHA256SUMS has a checksum without a name",)


@pytest.mark.parametrize(
    "text", [A, f"{A}  c.gz", f"{A} *./c.gz", f"{A}  /old/place/c.gz", f"{B}  other.gz\n{A}  c.gz"]
)
def test_a_sum_beside_its_file_speaks_of_it_wherever_it_was_made(text: str) -> None:
    assert promises_of(f"{text}\n".encode(), "c.gz.sha256") == ({"c.gz": Promise("c.gz.sha256", A)}, ())


@pytest.mark.parametrize("text", [f"{A}  other.gz", f"{A}  c.gz/", f"{A}  xc.gz", ""])
def test_a_sum_beside_a_file_that_speaks_of_another_is_a_problem(text: str) -> None:
    assert promises_of(f"{text}\n".encode(), "c.gz.sha256") == ({}, ("c.gz.sha256 promises nothing about c.gz",))


def test_every_problem_of_a_file_is_told() -> None:
    _, problems = promises_of(b"rubbish\n", "c.gz.sha256")
    assert problems == ("c.gz.sha256 line 1 is no checksum line", "c.gz.sha256 promises nothing about c.gz")


def test_a_name_that_cannot_be_printed_is_promised_raw_but_named_safely() -> None:
    name = os.fsdecode(b"c\xff\n.gz")
    promised, _ = promises_of(line(A, name), f"{name}.sha256")
    assert promised == {name: Promise("c\\xff\\x0a.gz.sha256", A)}
    _, problems = promises_of(b"rubbish", f"{name}.sha256")
    assert problems == (
        "c\\xff\\x0a.gz.sha256 line 1 is no checksum line",
        "c\\xff\\x0a.gz.sha256 promises nothing about c\\xff\\x0a.gz",
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("c.gz.sha256", True),
        ("SHA256SUMS", True),
        ("manifest.json", True),
        ("c.gz", False),
        ("c.sha256.gz", False),
        ("sha256sums", False),
        ("old-SHA256SUMS", False),
        ("manifest.json.bak", False),
    ],
)
def test_a_checksum_file_is_known_by_its_name(name: str, *, expected: bool) -> None:
    assert is_checksum_file(name) is expected

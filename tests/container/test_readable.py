"""A container read as a file, before it is sent."""

import io
import os
import shutil
import zipfile
from functools import partial

import pytest
from bodies import MIB, from_bytes, from_paths, pdf_of
from hypothesis import given, settings
from hypothesis import strategies as st

from posten_signering._container.layout import Compression


@pytest.fixture(params=["bytes", "path"])
def make(request, tmp_path):
    """Makes a body of documents given as bytes or as paths."""
    return from_bytes if request.param == "bytes" else partial(from_paths, tmp_path)


@pytest.mark.parametrize("compression", Compression)
def test_the_container_is_read_as_a_file(make, compression):
    job = make(pdf_of(2 * MIB), pdf_of(5), compression=compression)
    with job.open() as file:
        content = file.read()
        assert file.read() == b""
    assert len(content) == job.container.length
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
    copied = io.BytesIO()
    with job.open() as file:
        shutil.copyfileobj(file, copied)
    assert copied.getvalue() == content


def test_zipfile_reads_the_container_without_its_being_held(make):
    job = make(pdf_of(MIB), pdf_of(5))
    with job.open() as file, zipfile.ZipFile(file) as archive:
        assert [archive.read(name) for name in archive.namelist()[:2]] == job.contents
        assert archive.read("0000_document.pdf") == job.contents[0]
        assert archive.testzip() is None


def test_every_opening_is_fresh(make):
    job = make(pdf_of(100))
    with job.open() as first, job.open() as second:
        assert first.read(10) == second.read(10)
        assert first.read() == second.read()
    assert first.closed
    with job.open() as third:
        assert third.tell() == 0
        assert len(third.read()) == job.container.length


steps = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(0, 5000)),
        st.tuples(st.just("set"), st.integers(0, 5000)),
        st.tuples(st.just("current"), st.integers(-3000, 3000)),
        st.tuples(st.just("end"), st.integers(-3000, 100)),
    ),
    max_size=12,
)


@settings(max_examples=60)
@given(st.lists(st.integers(1, 3000), min_size=1, max_size=3), st.sampled_from(Compression), steps)
def test_reading_and_seeking_go_as_in_a_real_file(tmp_path_factory, sizes, compression, steps):
    folder = tmp_path_factory.mktemp("seek")
    job = from_paths(folder, *map(pdf_of, sizes), compression=compression)
    with job.open() as file:
        whole = file.read()
    (folder / "whole").write_bytes(whole)
    with job.open() as file, (folder / "whole").open("rb") as real:
        for step, number in steps:
            if step == "read":
                assert file.read(number) == real.read(number)
            else:
                whence = {"set": os.SEEK_SET, "current": os.SEEK_CUR, "end": os.SEEK_END}[step]
                origin = {"set": 0, "current": real.tell(), "end": len(whole)}[step]
                offset = max(number, -origin)
                assert file.seek(offset, whence) == real.seek(offset, whence)
            assert file.tell() == real.tell()


def test_a_place_before_the_beginning_is_refused():
    with from_bytes(pdf_of(10)).open() as file, pytest.raises(OSError, match="negative"):
        file.seek(-1)


def test_the_container_can_t_be_written():
    with from_bytes(pdf_of(10)).open() as file:
        assert file.readable()
        assert file.seekable()
        assert not file.writable()
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")

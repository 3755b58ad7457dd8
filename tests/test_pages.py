"""Text straight from Parquet's pages: what polars reads, with the same codes; damaged files are told of."""

from __future__ import annotations

import os
import threading
from contextlib import suppress

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import steelyard as sy
from hypothesis import given, settings
from hypothesis import strategies as st
from steelyard import pages, passes
from steelyard.blocks import Encoder
from steelyard.dictionary import Dictionary, Numbered, Stretch, Words
from steelyard.errors import LogError
from steelyard.pages import text_batches

WORDS = ["", "a", "twelve bytes", "thirteen byte", "ärger und übermut der größten", "日本", "x" * 3000, "tie", "b" * 17]


def read(files, columns=("text",), rows=100):
    """What pages say, column by column; None where they are not read."""
    batches = text_batches([str(file) for file in files], {name: name for name in columns}, rows)
    if batches is None:
        return None
    found = {name: [] for name in columns}
    dictionaries = {name: Dictionary() for name in columns}
    for batch in batches:
        assert batch.height <= rows
        for name in columns:
            codes = dictionaries[name].encode(batch[name])
            labels = dictionaries[name].labels()
            found[name] += [None if code == -1 else labels[code] for code in codes]
    return found


@settings(max_examples=150, deadline=None)
@given(
    choice=st.lists(st.integers(-1, len(WORDS) - 1), max_size=600),
    repeat=st.sampled_from([1, 1, 40]),
    version=st.sampled_from(["1.0", "2.0"]),
    codec=st.sampled_from(["none", "snappy", "gzip", "zstd", "brotli"]),
    group=st.sampled_from([7, 100, 10_000]),
    page=st.sampled_from([1, 40, 1 << 20]),
    rows=st.sampled_from([1, 33, 100, 5000]),
    nullable=st.booleans(),
)
def test_what_pyarrow_wrote(tmp_path_factory, choice, repeat, version, codec, group, page, rows, nullable):
    told = [WORDS[i] if i >= 0 else None if nullable else "none" for i in choice for _ in range(repeat)]
    table = pa.table([pa.array(told, pa.string())], schema=pa.schema([pa.field("text", pa.string(), nullable)]))
    path = tmp_path_factory.mktemp("pages") / "log.parquet"
    pq.write_table(
        table, path, compression=codec, data_page_version=version, row_group_size=group, data_page_size=page,
        write_batch_size=max(page // 4, 1),
    )  # fmt: skip
    found = read([path], rows=rows)
    assert found == {"text": told}


@pytest.mark.parametrize("codec", ["uncompressed", "snappy", "gzip", "zstd", "brotli"])
@pytest.mark.parametrize("group", [50, 100_000])
def test_what_polars_wrote(tmp_path, codec, group):
    rng = np.random.default_rng(0)
    frame = pl.DataFrame({name: pl.Series(WORDS)[rng.integers(0, len(WORDS), 3000)] for name in ("text", "more")})
    frame = frame.with_columns(more=pl.when(pl.int_range(pl.len()) % 7 > 1).then("more"))
    for place in ("one", "two"):
        frame.write_parquet(tmp_path / f"{place}.parquet", compression=codec, row_group_size=group)
    files = [tmp_path / "one.parquet", tmp_path / "two.parquet"]
    assert read(files, ("text", "more"), 700) == pl.concat([frame, frame]).to_dict(as_series=False)


def test_what_duckdb_wrote(tmp_path):
    duckdb = pytest.importorskip("duckdb")
    path = tmp_path / "log.parquet"
    duckdb.sql(f"COPY (SELECT 'arm ' || (i % 7) AS text FROM range(300000) t(i)) TO '{path}' (FORMAT parquet)")
    found = read([path], rows=1 << 17)
    assert found == {"text": [f"arm {i % 7}" for i in range(300_000)]}


@pytest.mark.parametrize("codec", ["SNAPPY", "BROTLI", "ZSTD", "GZIP"])
def test_a_page_of_nulls_without_a_body(codec):
    chunk = pages._Chunk("file", (), "text", 0, 9, 3, codec.lower(), nullable=True)
    head = pages._Header(kind=3, size=2, stored=2, values=3, encoding=8, level_encoding=-1, levels=2, repeats=0,
                         compressed=-1, begin=5, end=7, sound=1)  # fmt: skip
    page = pages._Page(chunk, Words.of(np.zeros((0, 2), np.uint64), np.zeros(0, np.uint8), "it"), head, b"\x06\x00")
    assert Dictionary().encode(Numbered([Stretch(page, 0, 3)])).tolist() == [-1, -1, -1]


def test_an_empty_file(tmp_path):
    pl.DataFrame({"text": []}, schema={"text": pl.String}).write_parquet(tmp_path / "none.parquet")
    assert read([tmp_path / "none.parquet"]) in (None, {"text": []})


def battles(n=3000, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.integers(0, 9, n), rng.integers(1, 9, n)
    names = pl.Series([f"arm {i} of the many arms" for i in range(9)])
    return pl.DataFrame(
        {
            "a": names[a], "b": names[(a + b) % 9], "winner": pl.Series(["a", "b", "tie"])[rng.integers(0, 3, n)],
            "rater": pl.Series([f"rater {i}" for i in range(60)])[rng.integers(0, 60, n)],
            "topic": pl.Series(["maths", "verse"])[rng.integers(0, 2, n)],
        }
    )  # fmt: skip


ROLES = {"a": "a", "b": "b", "outcome": "winner", "outcomes": {"a": 1, "b": 0, "tie": 0.5}}


def route(monkeypatch):
    """Notes whether passes went by the pages."""
    taken = []

    def noted(*asked):
        batches = text_batches(*asked)
        taken.append(batches is not None)
        return batches

    monkeypatch.setattr(passes, "text_batches", noted)
    return taken


@pytest.mark.parametrize("threads", [1, 4])
def test_both_ways_give_the_same_bits(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(passes, "block_rows", lambda wide: 97)
    frame, taken = battles(), route(monkeypatch)
    frame.write_parquet(tmp_path / "log.parquet", row_group_size=411)
    straight = sy.scan(tmp_path / "log.parquet", **ROLES, cluster="rater", context="topic")
    other = sy.scan(frame, **ROLES, cluster="rater", context="topic")
    for log in (straight, other):
        encoder = Encoder(dict(log.outcomes), clusters={"cluster_0": Dictionary()}, levels={"topic": Dictionary()})
        with passes.placed(threads):
            passes.run_pass(log, encoder, lambda block: block.n, lambda n: None)
        found = [encoder.arms, encoder.labels, encoder.clusters["cluster_0"], encoder.levels["topic"]]
        if log is straight:
            expected = found
            assert taken.pop()
    assert [each.labels() for each in found] == [each.labels() for each in expected]
    one, two = (sy.BradleyTerry().fit(log, threads=threads).table() for log in (straight, other))
    assert one.equals(two)
    assert taken
    assert all(taken)
    shown = [sy.PairPropensity().fit(log).coefficients() for log in (straight, other)]
    assert shown[0].equals(shown[1])


def test_what_is_no_plain_text_is_polars_to_read(tmp_path, monkeypatch):
    taken = route(monkeypatch)
    frame = battles().with_columns(y=pl.lit(0.5))
    path = tmp_path / "log.parquet"
    frame.write_parquet(path)
    for roles in (
        {"outcome": "y", "outcomes": None},
        {"outcome": pl.col("winner").str.to_lowercase()},
        {"a": pl.col("a").str.to_lowercase()},
        {"a": pl.col("a").alias("b")},
        {"weight": "y"},
        {"position": pl.lit(value=True)},
    ):
        sy.BradleyTerry().fit(sy.scan(path, **{**ROLES, **roles})).table()
        assert not any(taken), roles
    clustered, two = {"cluster_0": Dictionary()}, {"cluster_0+cluster_1": Dictionary()}
    for cluster, asked in (("rater", clustered), (pl.col("rater"), clustered), (["rater", "topic"], two)):
        named = sy.scan(path, **ROLES, cluster=cluster).text_columns(Encoder({}, clusters=asked))
        assert bool(named) == isinstance(cluster, str | pl.Expr)  # a column that is given as an expression is one
    sy.BradleyTerry().fit(sy.scan(pl.scan_parquet(path).filter(pl.col("topic") == "maths"), **ROLES)).table()
    assert not taken
    frame.with_columns(pl.col("a").cast(pl.Categorical)).write_parquet(path)
    sy.BradleyTerry().fit(sy.scan(path, **{**ROLES, "b": pl.col("b").cast(pl.Categorical)})).table()
    assert not any(taken)


def test_a_role_that_the_log_lacks_is_told_as_of_a_frame(tmp_path):
    battles().write_parquet(tmp_path / "log.parquet")
    with pytest.raises(LogError, match="has no rater group"):
        sy.GroupPropensity().fit(sy.scan(tmp_path / "log.parquet", **ROLES, context="topic"))


def test_columns_without_a_dictionary_and_files_that_differ(tmp_path, monkeypatch):
    taken = route(monkeypatch)
    frame, path = battles(), tmp_path / "log.parquet"
    expected = sy.BradleyTerry().fit(sy.scan(frame, **ROLES)).table()
    pq.write_table(frame.to_arrow(), path, use_dictionary=["a"])
    assert sy.BradleyTerry().fit(sy.scan(path, **ROLES)).table().equals(expected)
    pq.write_table(frame.to_arrow(), path, dictionary_pagesize_limit=60, write_batch_size=10, data_page_size=100)
    assert pq.read_metadata(path).row_group(0).column(0).has_dictionary_page  # and plain pages behind it
    assert sy.BradleyTerry().fit(sy.scan(path, **ROLES)).table().equals(expected)
    assert taken == [False, True]  # as far as there are numbers
    frame.write_parquet(path)
    for other in (frame.rename({"a": "other"}), frame.with_columns(more=1)):
        other.write_parquet(tmp_path / "more.parquet")
        with pytest.raises(LogError, match="could not read"):
            sy.BradleyTerry().fit(sy.scan(tmp_path / "*.parquet", **ROLES))
    assert not any(taken[2:])


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("step", [97, 1000])
def test_from_the_first_plain_page_on_polars_reads(tmp_path, monkeypatch, threads, step):
    monkeypatch.setattr(passes, "block_rows", lambda wide: step)
    read_by_polars = []
    queried = passes._queried
    monkeypatch.setattr(passes, "_queried", lambda log, frame, rows: (
        read_by_polars.append(frame.select(pl.len()).collect().item()) or queried(log, frame, rows)))  # fmt: skip
    frame = battles().with_columns(
        rater=pl.when(pl.int_range(pl.len()) % 11 > 0).then("rater number " + pl.int_range(pl.len()).cast(pl.String))
    )
    for place in ("one", "two"):
        pq.write_table(frame.to_arrow(), tmp_path / f"{place}.parquet", dictionary_pagesize_limit=27_000,
                       write_batch_size=10, data_page_size=100, row_group_size=1500)  # fmt: skip
    logs = (sy.scan(tmp_path / "*.parquet", **ROLES, cluster="rater", on_bad="drop"),
            sy.scan(pl.concat([frame, frame]), **ROLES, cluster="rater", on_bad="drop"))  # fmt: skip
    one, other = (sy.BradleyTerry().fit(log, threads=threads).table() for log in logs)
    assert one.equals(other)
    assert 0 < read_by_polars[0] < 6000
    assert (6000 - read_by_polars[0]) % step == 0


def test_a_folder_named_for_a_column_stands_over_the_file(tmp_path):
    frame = battles()
    for winner in ("a", "tie"):
        (tmp_path / f"winner={winner}").mkdir()
        frame.with_columns(winner=pl.lit("b")).write_parquet(tmp_path / f"winner={winner}" / "log.parquet")
    pairs = sy.scan(tmp_path, **ROLES).pairs()
    assert pairs["win"].sum() == pairs["tie"].sum() == frame.height
    assert pairs["loss"].sum() == 0


def test_nulls_behind_a_run_of_words(tmp_path):
    for told in (["a"] * 40 + [None] * 40, [None] * 9 + ["a"] * 900, ["a", None] * 30, [None] * 50):
        for version in ("1.0", "2.0"):
            pq.write_table(pa.table({"text": pa.array(told, pa.string())}), tmp_path / "x", data_page_version=version)
            assert read([tmp_path / "x"], rows=17) == {"text": told}


def test_words_that_no_row_names_are_no_arms(tmp_path, monkeypatch):
    taken = route(monkeypatch)
    frame, path = battles(), tmp_path / "log.parquet"
    kinds = pl.Enum(["never shown", *sorted({*frame["a"], *frame["b"]}), "nor this"])
    table = frame.with_columns(pl.col("a", "b").cast(kinds)).to_arrow().select(["a", "b", "winner"])
    pq.write_table(table.cast(pa.schema([*(pa.field(n, pa.dictionary(pa.int32(), pa.string())) for n in "ab"),
                                         pa.field("winner", pa.string())])), path, store_schema=False)  # fmt: skip
    log = sy.scan(path, **ROLES)
    assert log.arms() == sy.scan(frame, **ROLES).arms()
    assert taken == [True]


def test_a_fit_that_knows_its_arms(tmp_path):
    frame, path = battles(), tmp_path / "log.parquet"
    frame.write_parquet(path)
    some = sy.scan(frame.filter(~pl.any_horizontal(pl.col("a", "b").str.contains("arm 3"))), **ROLES)
    fit = sy.BradleyTerry().fit(some)
    first, second = (fit.predict(sy.scan(source, **ROLES)).collect() for source in (path, frame))
    assert first.equals(second)
    logs = [sy.scan(source, **ROLES, context="topic", cluster="rater") for source in (path, frame)]
    one, two = (sy.DoublyRobust().fit(log).table() for log in logs)
    assert one.equals(two)


def test_what_is_learned_while_another_thread_looks_stays(tmp_path, monkeypatch):
    battles().write_parquet(tmp_path / "log.parquet")
    (column,) = (batch["a"] for batch in text_batches([str(tmp_path / "log.parquet")], {"a": "a"}, 5000))
    dictionary, learned, asked = Dictionary(), threading.Event(), threading.Event()
    look, refuse = dictionary._of_words, dictionary._refuse_bytes

    def looked(words, which, learn):
        found = look(words, which, learn)
        if threading.current_thread() is late:
            asked.set()
            learned.wait(10)
        return found

    def refused(*told):
        refuse(*told)
        learned.set()
        late.join()

    monkeypatch.setattr(dictionary, "_of_words", looked)
    monkeypatch.setattr(dictionary, "_refuse_bytes", refused)
    late = threading.Thread(target=dictionary.encode, args=(column, None, False))
    late.start()
    asked.wait(10)
    codes = dictionary.encode(column)
    assert pl.Series(dictionary.labels())[codes].equals(battles()["a"])


def test_many_words_in_one_group(tmp_path, monkeypatch):
    """Each block brings new words of one page."""
    taken = route(monkeypatch)
    monkeypatch.setattr(passes, "block_rows", lambda wide: 50)
    frame = battles().with_columns(rater="rater number " + (pl.int_range(pl.len()) // 2).cast(pl.String))
    frame.write_parquet(tmp_path / "log.parquet")
    for threads in (1, 6):
        tables = [
            sy.BradleyTerry().fit(sy.scan(source, **ROLES, cluster="rater"), threads=threads).table()
            for source in (tmp_path / "log.parquet", frame)
        ]
        assert tables[0].equals(tables[1])
    assert any(taken)


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "log.parquet"
    battles().write_parquet(path, compression="uncompressed", statistics=False)
    data = path.read_bytes()
    assert data.count(b"arm 3 of the many arms") == 2  # a word of each side
    path.write_bytes(data.replace(b"arm 3 of the many arms", b"arm \xff of the many arms"))
    with pytest.raises(LogError, match=r"could not read .*column 'a' of .*log.parquet.*UTF8"):
        sy.BradleyTerry().fit(sy.scan(path, **ROLES))


def test_a_number_of_no_word(tmp_path):
    path = tmp_path / "log.parquet"
    battles().write_parquet(path, compression="uncompressed", statistics=False)
    data = path.read_bytes()
    told = pq.read_metadata(path).row_group(0).column(0)
    at, end = told.data_page_offset + 60, told.dictionary_page_offset + told.total_compressed_size
    path.write_bytes(data[:at] + b"\xff" * (end - at - 40) + data[end - 40 :])
    with pytest.raises(LogError, match="names word 15 of 9"):
        sy.BradleyTerry().fit(sy.scan(path, **ROLES))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    at=st.floats(0, 1),
    byte=st.integers(1, 255),
    version=st.sampled_from(["1.0", "2.0"]),
    codec=st.sampled_from(["none", "zstd"]),
)
def test_any_byte_may_be_wrong(tmp_path_factory, at, byte, version, codec):
    """Pages are left to polars, or read, or a LogError says that they are damaged: nothing else, and no crash."""
    path = tmp_path_factory.mktemp("pages") / "log.parquet"
    pq.write_table(battles(300).to_arrow(), path, data_page_version=version, compression=codec, data_page_size=100)
    data = bytearray(path.read_bytes())
    footer = 8 + int.from_bytes(data[-8:-4], "little")
    data[int(at * (len(data) - footer))] ^= byte
    path.write_bytes(data)
    with suppress(LogError):
        read([path], ("a", "b", "winner", "rater"))


def test_a_file_that_changes_between_the_plan_and_the_reading(tmp_path):
    path = tmp_path / "log.parquet"
    battles().write_parquet(path)
    batches, told = text_batches([str(path)], {"a": "a"}, 100), path.stat()
    with path.open("r+b") as file:
        file.write(bytes(200))
    os.utime(path, ns=(told.st_atime_ns, told.st_mtime_ns))  # as if nothing had happened
    with pytest.raises(LogError, match=r"log.parquet: the pages of column 'a' are damaged"):
        list(batches)
    battles().write_parquet(path)
    batches = text_batches([str(path)], {"a": "a"}, 100)
    other = battles().with_columns(a=pl.col("a").str.replace("x", "z"))  # pages of the same lengths, other words
    other.write_parquet(tmp_path / "new.parquet")
    os.utime(tmp_path / "new.parquet", ns=(0, 0))
    (tmp_path / "new.parquet").replace(path)
    with pytest.raises(LogError, match=r"log.parquet changed while it was read"):
        list(batches)
    battles().write_parquet(path)
    batches = text_batches([str(path)], {"a": "a"}, 100)
    path.unlink()
    with pytest.raises(LogError, match="could not read"):
        list(batches)

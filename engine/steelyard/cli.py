"""The command line: parses, calls the API, prints tables."""

from __future__ import annotations

import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

import polars as pl
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

import steelyard as sy
from steelyard.errors import within
from steelyard.passes import progress
from steelyard.report import write_debias, write_overlap, write_report
from steelyard.report.tables import check_table, frame_table, moved_most
from steelyard.result import discard_unfinished, replacing
from steelyard.sources import matching

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Causal estimation for preference data.")
WRITERS: dict[str, Any] = {
    ".parquet": pl.DataFrame.write_parquet,
    ".csv": pl.DataFrame.write_csv,
    ".json": pl.DataFrame.write_json,
}

Log = Annotated[str, typer.Argument(metavar="LOG", help="file, folder or glob of the preference log")]
Format = Annotated[str | None, typer.Option("--format", help="arena, pairs or chosen_rejected")]
A = Annotated[str | None, typer.Option("--a", help="column of the arm shown first")]
B = Annotated[str | None, typer.Option("--b", help="column of the other arm")]
Outcome = Annotated[str | None, typer.Option("--outcome", help="column of the outcome")]
Outcomes = Annotated[
    list[str] | None,
    typer.Option(
        "--outcomes",
        metavar="LABEL=VALUE",
        help="value, from 0 (b wins) to 1 (a wins) or null (not labelled), of an outcome label; repeatable",
    ),
]
Where = Annotated[
    str | None, typer.Option("--where", metavar="SQL", help="read these rows alone, as in \"judge = 'crowd'\"")
]
Weight = Annotated[str | None, typer.Option("--weight", help="column of sampling weights")]
Count = Annotated[str | None, typer.Option("--count", help="column: comparisons a row stands for")]
Position = Annotated[str | None, typer.Option("--position", help="boolean column: being shown first counts")]
Cluster = Annotated[list[str] | None, typer.Option("--cluster", help="column that errors are clustered by; repeatable")]
Covariates = Annotated[
    list[str] | None,
    typer.Option(
        "--covariate",
        metavar="NAME=SQL",
        help="adjust for a difference of the two sides, as in length='len_a - len_b'; repeatable",
    ),
]
Context = Annotated[
    list[str] | None, typer.Option("--context", help="column known before the answer was shown; repeatable")
]
Group = Annotated[str | None, typer.Option("--group", help="column of the rater's group or objective")]
OnBad = Annotated[str, typer.Option("--on-bad", help="raise, drop or quarantine")]
Method = Annotated[str, typer.Option(help="bradley-terry, win-rate, elo, eigenvector, pagerank or newman")]
Report = Annotated[Path | None, typer.Option("--report", help="write an HTML report: .html")]
Out = Annotated[Path | None, typer.Option("--out", help="write the table: .parquet, .csv or .json")]


@contextmanager
def _errors() -> Iterator[None]:
    """Bad data and unwritable files: one paragraph on stderr, status 1. Wrong usage: status 2."""
    try:
        yield
    except (sy.SteelyardError, OSError, pl.exceptions.PolarsError) as error:
        typer.echo(f"steelyard: {error}", err=True)
        raise typer.Exit(1) from error
    except ValueError as error:
        typer.echo(f"steelyard: {error}", err=True)
        raise typer.Exit(2) from error


@contextmanager
def _noting(notes: list[str] | None = None) -> Iterator[None]:
    """Warnings as notes on stderr, each once; added to `notes`, for the report."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default", UserWarning)
        yield
    for words in dict.fromkeys(str(note.message) for note in caught if issubclass(note.category, UserWarning)):
        typer.echo(f"note: {words}", err=True)
        if notes is not None:
            notes.append(words)


@contextmanager
def _working(what: str) -> Iterator[None]:
    """A bar on stderr that counts the rows read by every pass, while the work lasts."""
    if sys.stderr is None or not sys.stderr.isatty():  # a bar in a log file is noise, whatever FORCE_COLOR says
        yield
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[rows]}"))
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, rows="")

        def told(rows: int) -> None:
            bar.update(task, advance=rows, rows=f"{bar.tasks[task].completed + rows:,.0f} rows")

        token = progress.set(told)
        try:
            yield
        finally:
            progress.reset(token)


def _print(table: Any) -> None:
    if sys.stdout is not None:  # closed
        Console(width=None if sys.stdout.isatty() else 140).print(table)


@contextmanager
def _outputs(
    log: str, report: Path | None = None, *paths: Path | None, table: Path | None = None, read: Path | None = None
) -> Iterator[list[Path | None]]:
    """Temporary names for outputs, refused before anything is computed; they get their own when all are written.

    The table's comes last. read: a file that is read beside the log, which no output may replace either. What is
    printed comes after them: a terminal that is gone must not take them along.
    """
    if table is not None and table.suffix.lower() not in WRITERS:
        raise ValueError(f"--out {table}: the ending must be one of {', '.join(WRITERS)}")
    if report is not None and report.suffix.lower() not in (".html", ".htm"):
        raise ValueError(f"--report {report}: the ending must be .html")
    named = [path for path in (report, *paths, table) if path is not None]
    for path in named:
        _writable(log, path, read)
    if len({path.resolve() for path in named}) < len(named):
        raise ValueError(f"{', '.join(map(str, named))}: every output needs a name of its own")
    with ExitStack() as stack:
        yield [None if path is None else stack.enter_context(replacing(path)) for path in (report, *paths, table)]


def _writable(log: str, path: Path, read: Path | None) -> None:
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist")
    for source, what in ((log, "the log itself"), (read, "read beside the log")):
        local = source is not None and "://" not in str(source) and path.exists()
        if local and any(path.samefile(own) for own in matching(str(source))):
            raise ValueError(f"{path} is {what}: choose another name for the output")


def _write(frame: pl.DataFrame, out: Path | None) -> None:
    if out is not None:
        WRITERS[out.suffix.lower()](frame, out)


def _model(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; rank --save writes one")
    fit = sy.load(path)
    if not hasattr(fit, "sink"):
        raise sy.FormatError(f"{path} holds a {type(fit).__name__}, which scores no rows; rank --save writes what does")
    return fit


def _scan(log: str, **options: Any) -> sy.PreferenceLog:
    for role in ("cluster", "context"):
        options[role] = options.get(role) or ()
    lacking = [f"--{role}" for role in ("a", "b", "outcome") if options[role] is None]
    if lacking and options["format"] is None:
        raise ValueError(f"no column given for {', '.join(lacking)}: name them, or choose a --format")
    options["outcomes"] = _worth(options["outcomes"] or ())
    named = [text.partition("=") for text in options.pop("covariates", None) or ()]
    _each_once("--covariate", [name for name, *_ in named])
    options["covariates"] = {name: _sql("--covariate", "NAME=SQL, as in length='len_a - len_b'", sql)
                             for name, _, sql in named}  # fmt: skip
    where, form = options.pop("where", None), options.pop("format")
    with _noting():
        scanned = sy.scan(log, form, **options)
        if where is None:
            return scanned
        kept = scanned.frame().filter(_sql("--where", "SQL, as in \"judge = 'crowd'\"", where))  # labels are as written
        return replace(sy.scan(kept, form, **options), name=f"{log} where {where}")


def _worth(given: Sequence[str]) -> dict[str, float | None] | None:
    """What each outcome label is worth; None where that is not said."""
    pairs = [text.rpartition("=") for text in given]
    try:
        told = {label: None if value.lower() in ("null", "none") else float(value) for label, _, value in pairs}
    except ValueError:
        words = "--outcomes takes LABEL=VALUE, as in --outcomes left=1 --outcomes right=0 --outcomes NA=null"
        raise ValueError(words) from None
    _each_once("--outcomes", [label for label, *_ in pairs])
    for label, number in told.items():
        if number is not None:
            within(f"the value of --outcomes {label!r}", number, 0.0, 1.0)
    return told or None


def _each_once(option: str, names: Sequence[str]) -> None:
    if not all(names):
        raise ValueError(f"{option} needs a name before the =")
    if len(set(names)) < len(names):
        raise ValueError(f"{option} is given twice for one name: {', '.join(names)}")


def _sql(option: str, words: str, sql: str) -> pl.Expr:
    try:
        return pl.sql_expr(sql)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{option} takes {words} ({error})") from None


def _left_out(dropped: dict[str, int]) -> None:
    if dropped:
        left = "; ".join(f"{count} row{'s' * (count != 1)}: {reason}" for reason, count in dropped.items())
        typer.echo(f"left out: {left}", err=True)


def _shown_by(
    method: str, strata: list[str] | None, ridge: float, propensity: str | None, context: list[str] | None
) -> sy.PairPropensity:
    """The propensity of pairs that options ask for; ValueError where they do not go together."""
    spec = sy.PairPropensity(method=method, strata=tuple(strata or ()), ridge=ridge)  # type: ignore[arg-type]
    if (propensity is None) == (method == "logged"):
        raise ValueError("--propensity and --method logged go together: the column is the probability that is logged")
    if method in ("softmax", "pairs") and not context:
        raise ValueError(f"--method {method} needs --context: columns known before the answer was shown")
    return spec


@app.command()
def check(
    log: Log, format: Format = None, a: A = None, b: B = None, outcome: Outcome = None,
    outcomes: Outcomes = None, weight: Weight = None,
    count: Count = None, position: Position = None, cluster: Cluster = None, context: Context = None,
    group: Group = None, where: Where = None, out: Out = None,
) -> None:  # fmt: skip
    """Tell rows, arms, ties, bad rows by reason, components; with --context whether what was shown depends on it."""
    with _errors():
        with _outputs(log, table=out) as (_, table):
            scanned = _scan(log, format=format, a=a, b=b, outcome=outcome, outcomes=outcomes, weight=weight,
                            count=count, position=position, cluster=cluster, context=context, group=group,
                            where=where)  # fmt: skip
            with _working("reading"):
                found = scanned.check()
            _write(found.frame(), table)
        _print(check_table(found))
        if context and not found.bad:
            _assignment(scanned, sy.PairPropensity(), "pairs of arms")
        if context and group and not found.bad:
            _assignment(scanned, sy.GroupPropensity(), "groups of raters")
        if found.bad:
            raise sy.LogError(f"{log} has bad rows: {_ways(found)} correct them, or leave them out with --on-bad drop")
        if not found.usable:
            raise sy.LogError(f"{log} has no comparison to learn from")


def _ways(found: sy.checks.Check) -> str:
    """What to do of outcomes that are not known, before anything is left out."""
    if "unknown outcome" not in found.bad:
        return ""
    return f"say what each outcome is worth, as in --outcomes {found.strange[0] if found.strange else 'LABEL'}=VALUE;"


def _assignment(log: sy.PreferenceLog, spec: sy.PairPropensity | sy.GroupPropensity, what: str) -> None:
    """Whether it depends on context, and what weights that undo this would leave of the log."""
    with _working("fitting"), _noting():
        fit = spec.fit(log)
        test = str(fit.dependence())
        try:
            facts: Any = fit.weights(log, floor=0.0, unsupported=1.0).overlap()
        except sy.OverlapError as error:
            facts = error
    typer.echo(test[0].upper() + test[1:])
    if isinstance(facts, sy.OverlapError):
        typer.echo(f"{what} equally often in every context: {facts}")
    else:
        _print(frame_table(facts.frame(), f"If {what} were equally likely in every context"))


@app.command()
def weigh(
    log: Log,
    out: Annotated[Path, typer.Option("--out", help="row weight propensity clipped trimmed: .parquet, .csv or .json")],
    format: Format = None, a: A = None, b: B = None, outcome: Outcome = None, outcomes: Outcomes = None,
    weight: Weight = None, count: Count = None, cluster: Cluster = None, context: Context = None, group: Group = None,
    propensity: Annotated[str | None, typer.Option(help="column of the logged propensity")] = None,
    of: Annotated[str, typer.Option(help="what to weigh: pair, group or label")] = "pair",
    method: Annotated[str, typer.Option(help="of pairs: softmax, pairs, frequency or logged")] = "softmax",
    strata: Annotated[list[str] | None, typer.Option(help="context column of strata; repeatable")] = None,
    ridge: Annotated[float, typer.Option(help="penalty on the summed log-likelihood")] = 1.0,
    target: Annotated[str, typer.Option(help="uniform, log, or a file of rows of the target population")] = "uniform",
    kind: Annotated[str, typer.Option(help="hajek, stabilized, overlap or balance")] = "hajek",
    clip: Annotated[float | None, typer.Option(help="largest weight; below 1: that quantile")] = None,
    trim: Annotated[float | None, typer.Option(help="lowest propensity")] = None,
    floor: Annotated[float, typer.Option(help="effective share below which it refuses")] = 0.01,
    unsupported: Annotated[float, typer.Option(help="share without support above which it refuses")] = 0.1,
    on_bad: OnBad = "raise",
    report: Report = None,
) -> None:  # fmt: skip
    """Write the weight of every row, in order, that turns the log into a target population."""
    population = target if target in ("uniform", "log") else Path(target)
    read = population if isinstance(population, Path) else None
    with _errors(), _outputs(log, report, table=out, read=read) as (page, written):
        scanned = _scan(log, format=format, a=a, b=b, outcome=outcome, outcomes=outcomes, weight=weight, count=count,
                        cluster=cluster, context=context, group=group, propensity=propensity,
                        on_bad=on_bad)  # fmt: skip
        if of not in ("pair", "group", "label"):
            raise ValueError(f"--of must be 'pair', 'group' or 'label', not {of!r}")
        if of != "pair" and (method != "softmax" or strata or propensity):
            raise ValueError("--method, --strata and --propensity go with --of pair")
        if of == "group" and group is None:
            raise ValueError("--of group needs --group: the column of the rater's group")
        if of != "pair" and not context:
            raise ValueError(f"--of {of} needs --context: columns known before the answer was shown")
        spec: Any = sy.GroupPropensity(ridge=ridge) if of == "group" else sy.LabelPropensity(ridge=ridge)
        spec = _shown_by(method, strata, ridge, propensity, context) if of == "pair" else spec
        options: dict[str, Any] = {"kind": kind, "clip": clip, "trim": trim}
        notes: list[str] = []
        with _working("weighing"), _noting(notes):
            fit = spec.fit(scanned)
            made = fit.weights(scanned, population, floor=floor, unsupported=unsupported, **options)
            made.sink(scanned, written)
        if page:
            tests = [str(fit.dependence())] if fit.iterations is not None else []
            write_overlap(page, made, tests, f"Overlap: {Path(log).name}", notes)
    with _errors():
        _print(frame_table(made.overlap().frame(), "What the weights leave"))
        typer.echo(f"wrote {out}: the log, {made.estimand}")
        _left_out(fit.dropped)


@app.command()
def rank(
    log: Log, format: Format = None, a: A = None, b: B = None, outcome: Outcome = None,
    outcomes: Outcomes = None, weight: Weight = None,
    count: Count = None, position: Position = None, cluster: Cluster = None, covariate: Covariates = None,
    where: Where = None, on_bad: OnBad = "raise", method: Method = "bradley-terry",
    ties: Annotated[str, typer.Option(help="half, drop, davidson or rao-kupper")] = "half",
    link: Annotated[str, typer.Option(help="logistic or probit")] = "logistic",
    position_effect: Annotated[bool, typer.Option("--position-effect", help="estimate and remove it")] = False,
    ridge: Annotated[float, typer.Option(help="penalty on the summed log-likelihood")] = 0.0,
    separation: Annotated[str, typer.Option(help="flag or raise")] = "flag",
    covariance: Annotated[str | None, typer.Option(help="sandwich, model or cluster")] = None,
    level: Annotated[float, typer.Option(help="of the intervals")] = 0.95,
    scale: Annotated[str, typer.Option(help="logit or elo")] = "logit",
    simultaneous: Annotated[bool, typer.Option("--simultaneous", help="hold all at once")] = False,
    out: Out = None,
    report: Report = None,
    save: Annotated[Path | None, typer.Option(help="write the fitted model, for predict")] = None,
) -> None:  # fmt: skip
    """Rank the arms of a log, with intervals and rank sets."""
    with _errors(), _outputs(log, report, save, table=out) as (page, saved, table):
        if method != "bradley-terry":
            given = {"--report": report, "--save": save, "--ties": ties != "half", "--link": link != "logistic",
                     "--position-effect": position_effect, "--ridge": ridge, "--separation": separation != "flag",
                     "--covariance": covariance, "--scale": scale != "logit", "--simultaneous": simultaneous,
                     "--covariate": covariate, "--cluster": cluster, "--level": level != 0.95}  # fmt: skip
            if any(given.values()):
                own = ", ".join(name for name, is_given in given.items() if is_given)
                raise ValueError(f"{own}: only with --method bradley-terry")
        scanned = _scan(log, format=format, a=a, b=b, outcome=outcome, outcomes=outcomes, weight=weight,
                        count=count, position=position, cluster=cluster, covariates=covariate,
                        on_bad=on_bad, where=where)  # fmt: skip
        if method != "bradley-terry":
            with _working("ranking"), _noting():
                board = sy.rank(scanned, method=method)
        else:
            model: dict[str, Any] = {"ties": ties, "link": link, "separation": separation, "covariance": covariance}
            notes: list[str] = []
            with _working("fitting"), _noting(notes):
                fit = sy.BradleyTerry(position=position_effect, ridge=ridge, **model).fit(scanned)
                board = fit.table(level, scale, simultaneous)
            if page:
                write_report(page, fit, scanned.check(), Path(log).name, level, scale, simultaneous, notes)
            if saved:
                fit.save(saved)
        _write(board, table)
    with _errors():
        _print(frame_table(board, "Leaderboard"))
        if method == "bradley-terry" and len(effects := fit.coefficients(level)):
            _print(frame_table(effects, "Coefficients (on the logit scale)"))
        if method == "bradley-terry":
            _left_out(fit.dropped)


@app.command()
def debias(
    log: Log, format: Format = None, a: A = None, b: B = None, outcome: Outcome = None, outcomes: Outcomes = None,
    weight: Weight = None, count: Count = None, cluster: Cluster = None, context: Context = None,
    propensity: Annotated[str | None, typer.Option(help="column of the logged propensity")] = None,
    where: Where = None, on_bad: OnBad = "raise",
    method: Annotated[str, typer.Option(help="of which pair was shown: softmax, pairs, frequency, logged")] = "softmax",
    strata: Annotated[list[str] | None, typer.Option(help="context column of strata; repeatable")] = None,
    judge: Annotated[str | None, typer.Option(help="column: a judge's probability of a; implies --unlabelled")] = None,
    unlabelled: Annotated[bool, typer.Option("--unlabelled", help="rows without an outcome count too")] = False,
    target: Annotated[Path | None, typer.Option(help="file of rows of the target population")] = None,
    pairs: Annotated[str, typer.Option(help="uniform or log")] = "uniform",
    folds: Annotated[int, typer.Option(help="of cross-fitting")] = 5,
    seed: Annotated[int, typer.Option(help="of the folds")] = 0,
    ridge: Annotated[float, typer.Option(help="of the outcome model and the propensity")] = 1.0,
    floor: Annotated[float, typer.Option(help="effective share below which it refuses")] = 0.01,
    unsupported: Annotated[float, typer.Option(help="share without support above which it refuses")] = 0.1,
    level: Annotated[float, typer.Option(help="of the intervals")] = 0.95,
    simultaneous: Annotated[bool, typer.Option("--simultaneous", help="hold all at once")] = False,
    out: Out = None,
    report: Report = None,
    save: Annotated[Path | None, typer.Option(help="write the fit")] = None,
) -> None:  # fmt: skip
    """Doubly robust scores: what they would be if every pair were shown in every context alike."""
    with _errors(), _outputs(log, report, save, table=out, read=target) as (page, saved, table):
        scanned = _scan(log, format=format, a=a, b=b, outcome=outcome, outcomes=outcomes, weight=weight, count=count,
                        cluster=cluster, context=context, propensity=propensity, on_bad=on_bad,
                        where=where)  # fmt: skip
        shown = _shown_by(method, strata, ridge, propensity, context)
        answered = sy.LabelPropensity(ridge=ridge) if unlabelled or judge else None
        spec = sy.DoublyRobust(
            propensity=shown, labelled=answered, judge=judge, folds=folds, seed=seed,
            target=target, pairs=pairs, ridge=ridge, floor=floor, unsupported=unsupported,
        )  # fmt: skip
        notes: list[str] = []
        with _working("fitting"), _noting(notes):
            fit = spec.fit(scanned)
            board = fit.table(level, simultaneous=simultaneous)
            told = sy.card(fit)
        if page:
            write_debias(page, fit, f"Debiased: {Path(log).name}", level, told, simultaneous, notes)
        if saved:
            fit.save(saved)
        _write(board, table)
    with _errors():
        _debiased(fit, level, simultaneous)
        typer.echo(str(told))
        _left_out(fit.dropped)


def _debiased(fit: sy.DoublyRobustFit, level: float, simultaneous: bool) -> None:
    """Naive against doubly robust, and what moved and why."""
    if fit.naive is None:
        title = "Doubly robust scores (the plain fit has none that are finite)"
        _print(frame_table(fit.table(level, simultaneous=simultaneous), title))
        return
    title = "Naive and doubly robust scores (on the logit scale, less their mean over the arms with an error in both)"
    _print(frame_table(fit.compare(level, simultaneous), title))
    for arm, reason in fit.table(level).filter(pl.col("se").is_null()).select("arm", "reason").iter_rows():
        typer.echo(f"{arm}: {reason}")
    moved = moved_most(fit, 5)
    if len(moved):
        _print(frame_table(moved, "What moved most, and the context that explains most of it"))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="a model saved by rank --save")],
    log: Log,
    out: Annotated[Path, typer.Option("--out", help="Parquet file of margins and probabilities, or a folder")],
    format: Format = None, a: A = None, b: B = None, outcome: Outcome = None,
    outcomes: Outcomes = None, position: Position = None, covariate: Covariates = None,
    resume: Annotated[bool, typer.Option("--resume", help="leave out what --out holds, as it is now")] = False,
) -> None:  # fmt: skip
    """Score every row of a log, in order, in bounded memory; a folder of files into a folder, file by file."""
    with _errors():
        _writable(log, out, model)
        scorer = _model(model)
        answered: Any = outcome if outcome or format else pl.lit(None, pl.Float64)  # scores ask for no answer
        scanned = _scan(log, format=format, a=a, b=b, outcome=answered, outcomes=outcomes, position=position,
                        covariates=covariate)  # fmt: skip
        with _working("scoring"):
            unscored = scorer.sink(scanned, out, resume)
        note = f"; {unscored} rows without a margin: an arm without a score" if unscored else ""
        typer.echo(f"wrote {out}{note}")


@app.command()
def demo() -> None:
    """Rank the models of the shipped llmfao log by its human votes, debias them; writes report.html, debiased.html."""
    with _errors():
        source = pl.scan_parquet(str(files("steelyard") / "data" / "llmfao.parquet"), glob=False)
        votes = source.filter(pl.col("judge") == "crowd")
        log = sy.scan(votes, a="left", b="right", outcome="winner", cluster="judge_id", context="prompt_type")
        plain: list[str] = []
        robust: list[str] = []
        with _working("fitting"), _noting(plain):
            fit = sy.BradleyTerry().fit(log)
            found = log.check()
        path = write_report("report.html", fit, found, "llmfao: human votes on language models", cautions=plain)
        with _working("debiasing"), _noting(robust):
            debiased = sy.DoublyRobust(pairs="log").fit(log)  # most pairs never met: no more is asked than the log has
        title = "llmfao: its pairs in every type of prompt alike"
        beside = write_debias("debiased.html", debiased, title, cautions=robust)
        _print(check_table(found))
        _print(frame_table(fit.table(), "Human votes on language models (errors clustered by voter)"))
        _print(frame_table(debiased.compare().head(10), "Naive, and as if the same pairs had been shown on every type "
                           "of prompt alike: the first ten"))  # fmt: skip
        _print(frame_table(moved_most(debiased, 5), "What moved most, and the type of prompt that explains most of it"))
        typer.echo(f"data: llmfao by Dmitry Ustalov, CC BY 4.0; the reports are {path} and {beside}")


def main() -> None:
    """Entry point of the `steelyard` command."""
    if os.name == "posix":
        _await_the_end([one for one in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(one) == signal.SIG_DFL])
    app()


def _await_the_end(numbers: list[signal.Signals]) -> None:
    """A thread that takes unfinished outputs away, and ends the process, where a signal asks for its end.

    A handler in Python would run in the main thread, and not before polars is done with what it is at.
    """
    told, telling = os.pipe()
    os.set_blocking(telling, False)
    signal.set_wakeup_fd(telling)
    for number in numbers:
        signal.signal(number, lambda *_: None)

    def ended() -> None:
        while (number := os.read(told, 1)[0]) not in numbers:
            pass  # others have handlers of their own
        discard_unfinished()
        os._exit(128 + number)

    threading.Thread(target=ended, daemon=True).start()

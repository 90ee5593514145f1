"""Checkpoints: the same bits whatever cuts a fit off, and nothing else is taken for one."""

from __future__ import annotations

import pickle
import signal
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import dask.array
import numpy as np
import pyarrow
import pytest
from conftest import replaced
from numpy.typing import NDArray

import gmm
from gmm import checkpoint as module
from gmm.checkpoint import Digest, digest_of, inner_state, set_inner_state, told
from gmm.convergence import ACCELERATIONS, Ascent, State, ascent
from gmm.families import FAMILIES
from gmm.initial import starting_mixture
from gmm.missing import IncompleteRows
from gmm.persistence import read_tree, write_tree
from gmm.rows import BlockRows, as_rows, as_source
from gmm.small import SmallSteps
from gmm.steps import steps_for
from gmm.sweep import Sweep

Floats = NDArray[np.float64]

X = gmm.datasets.iris().X
WEIGHTS = np.random.default_rng(0).uniform(0.2, 2.0, len(X))
#: A fit of 24 iterations from a start that leaves EM much to do.
LONG: dict[str, Any] = {"start": "random", "random_state": 1, "tol": 0.0, "max_iter": 24}


#: A mixture from which EM still has a way to go.
FIRST = gmm.Mixture(np.full(3, 1 / 3), X[[0, 60, 120]], np.tile(np.cov(X.T), (3, 1, 1)))


def interrupted_at(*iterations: int) -> Callable[[gmm.Progress], None]:
    """A callback that interrupts a fit when these iterations come, each for the first time."""
    left = list(iterations)

    def callback(progress: gmm.Progress) -> None:
        if progress.iteration in left:
            left.remove(progress.iteration)
            raise KeyboardInterrupt

    return callback


def assert_same(a: gmm.Fit, b: gmm.Fit) -> None:
    """To the bit, but for the seconds."""
    assert a.mixture.family == b.mixture.family
    for name in ("weights", "means", "stored"):
        np.testing.assert_array_equal(getattr(a.mixture, name), getattr(b.mixture, name))
    assert (a.log_likelihood, a.log_prior, a.reason) == (b.log_likelihood, b.log_prior, b.reason)
    np.testing.assert_array_equal(a.trace.log_likelihood, b.trace.log_likelihood)
    np.testing.assert_array_equal(a.trace.passes, b.trace.passes)
    assert len(a.trace.seconds) == len(b.trace.seconds)
    assert a.starts == b.starts
    assert a.trace.mixtures.keys() == b.trace.mixtures.keys()
    for i, mixture in a.trace.mixtures.items():
        for name in ("weights", "means", "stored"):
            np.testing.assert_array_equal(
                getattr(mixture, name), getattr(b.trace.mixtures[i], name)
            )


def assert_continues(path: Path, data: Any, *args: Any, at: int = 9, **options: Any) -> gmm.Fit:
    """A fit, one that only keeps a checkpoint, and one cut off and continued end in the same."""
    whole = gmm.fit(data, *args, **options)
    assert whole.n_iter > at  # or there would be nothing to cut off
    kept = gmm.fit(data, *args, **options, checkpoint=path, checkpoint_every=3)
    assert_same(whole, kept)
    assert not path.exists()
    first = gmm.fit(data, *args, **options, checkpoint=path, callback=interrupted_at(at))
    assert (first.reason, first.n_iter) == ("interrupted", at)
    assert path.exists()
    seen: list[int] = []
    rest = gmm.fit(
        data, *args, **options, checkpoint=path, callback=lambda p: seen.append(p.iteration)
    )
    assert seen == list(range(at, whole.n_iter + 1))  # the callback of `at` had not come to its end
    assert not path.exists()
    assert_same(whole, rest)
    return whole


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "fit.checkpoint"


# ---------------------------------------------------------------- the same bits


@pytest.mark.derives("prop-continuation")
@pytest.mark.parametrize("accelerate", ACCELERATIONS)
@pytest.mark.parametrize("family", [name for name in FAMILIES if len(name) == 3])
def test_every_family_and_acceleration_continues_to_the_same_bits(
    family: str, accelerate: str, path: Path
) -> None:
    assert_continues(path, X, 3, family, accelerate=accelerate, **LONG)


@pytest.mark.parametrize("accelerate", ["none", "squarem", "lbfgs"])
@pytest.mark.parametrize(
    "options",
    [
        {"prior": "default"},
        {"ridge": 1e-3},
        {"fixed": ("means",), "start": FIRST},
        {"fixed": ("covariances", "weights"), "start": FIRST},
        {"sample_weight": WEIGHTS},
        {"start": X[[0, 60, 120]]},
        {"keep": 4},
        {"keep": [0, 5, 20]},
        {"stop": "aitken", "tol": 1e-4, "max_iter": 400},
    ],
    ids=lambda options: "-".join(options),
)  # fmt: skip
def test_every_option_continues_to_the_same_bits(
    options: dict[str, Any], accelerate: str, path: Path
) -> None:
    assert_continues(path, X, 3, accelerate=accelerate, **{**LONG, **options}, at=5)


def halves() -> Iterator[Floats]:
    yield X[:70]
    yield X[70:]


@pytest.mark.parametrize("source", ["plane", "blocks", "table", "dask", "file", "float32"])
def test_every_source_of_rows_continues_to_the_same_bits(
    source: str, path: Path, tmp_path: Path
) -> None:
    np.save(tmp_path / "rows.npy", X)
    sources: dict[str, Callable[[], Any]] = {
        "plane": lambda: X[:, :2],  # plain numbers: gmm.small
        "blocks": lambda: BlockRows(halves),
        "table": lambda: pyarrow.table({str(i): X[:, i] for i in range(4)}),
        "dask": lambda: dask.array.from_array(X, chunks=(40, 4)),
        "file": lambda: tmp_path / "rows.npy",
        "float32": lambda: X.astype(np.float32),
    }
    assert_continues(path, sources[source](), 3, **LONG)


def test_missing_values_continue_to_the_same_bits(path: Path) -> None:
    holes = X.copy()
    holes[np.random.default_rng(3).random(X.shape) < 0.1] = np.nan
    assert_continues(path, holes, 3, missing="em", sample_weight=WEIGHTS, **LONG)


@pytest.mark.parametrize("at", range(4))
def test_a_start_beyond_what_plain_numbers_can_do_continues_to_the_same_bits(
    at: int, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its first iterations are done by a sweep, whose mixture is kept to the last digit."""
    by_sweep = []
    real = SmallSteps._by_sweep

    def counted(self: SmallSteps, components: Any) -> Any:
        by_sweep.append(1)
        return real(self, components)

    monkeypatch.setattr(SmallSteps, "_by_sweep", counted)
    start = gmm.Mixture([0.5, 0.5], [[2.0, 50.0], [4.5, 82.0]], np.full(2, 1e-9), "VII")
    data = gmm.datasets.old_faithful().X
    assert_continues(path, data, 2, "VII", start=start, tol=0.0, max_iter=9, at=at)
    assert by_sweep


@pytest.mark.derives("prop-continuation")
@pytest.mark.parametrize("accelerate", ["none", "lbfgs"])
def test_several_interrupts_of_one_fit_do_no_more_than_one(accelerate: str, path: Path) -> None:
    whole = gmm.fit(X, 3, accelerate=accelerate, **LONG)
    callback = interrupted_at(0, 1, 2, 9, 10, 23, 24)
    reached = []
    for _ in range(8):
        fit = gmm.fit(X, 3, accelerate=accelerate, **LONG, checkpoint=path, callback=callback)
        reached.append(fit.n_iter)
    assert reached == [0, 1, 2, 9, 10, 23, 24, 24]
    assert_same(whole, fit)


@pytest.mark.derives("prop-continuation")
@pytest.mark.parametrize("accelerate", ACCELERATIONS)
def test_interrupts_in_the_midst_of_iterations_lose_no_more_than_these(
    accelerate: str, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every third fit is interrupted in its first new pass, when the accelerator has moved on."""
    whole = gmm.fit(X, 3, accelerate=accelerate, **LONG)
    real, left = Sweep.__call__, 0

    def interrupted(self: Sweep, mixture: gmm.Mixture) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return real(self, mixture)

    monkeypatch.setattr(Sweep, "__call__", interrupted)
    for piece in range(60):
        left = (1, 3, 4)[piece % 3]
        fit = gmm.fit(X, 3, accelerate=accelerate, **LONG, checkpoint=path, checkpoint_every=2)
        if fit.reason != "interrupted":
            break
    assert piece > 10
    assert_same(whole, fit)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="Windows has no timers of this kind")
def test_interrupts_at_any_moment_do_no_harm(path: Path) -> None:
    """Real ones, from a timer: none of them turns into another error, or changes a bit."""
    options: dict[str, Any] = {"start": X[[0, 60, 120]], "tol": 0.0, "max_iter": 80}
    options["accelerate"] = "anderson"
    whole = gmm.fit(X, 3, **options)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
    pieces, seconds, fit = 0, 0.003, None
    while fit is None or fit.reason == "interrupted":
        pieces += 1
        try:
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, seconds)
                fit = gmm.fit(X, 3, **options, checkpoint=path, checkpoint_every=1)
        finally:
            with suppress(KeyboardInterrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.0)
        seconds *= 1.1
    signal.signal(signal.SIGALRM, before)
    assert pieces > 1
    assert_same(whole, fit)


@pytest.mark.parametrize("at", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("seed", [6, 32])
def test_several_starts_go_on_with_the_one_that_was_cut_off(seed: int, at: int, path: Path) -> None:
    """Runs collapse before and after it; the best is before it for one seed, after it for 32."""
    data = gmm.datasets.acidity().X
    options: dict[str, Any] = {"start": "random", "n_starts": 6, "random_state": seed, "keep": 7}
    whole = gmm.fit(data, 4, **options)
    assert {run.reason for run in whole.starts} == {"converged", "singular"}
    starts = 0

    def in_the_fourth(progress: gmm.Progress) -> None:
        nonlocal starts
        starts += progress.iteration == 0
        if starts == 4 and progress.iteration == at:
            starts += 1
            raise KeyboardInterrupt

    first = gmm.fit(data, 4, **options, checkpoint=path, callback=in_the_fourth)
    assert [run.reason for run in first.starts[3:]] == ["interrupted"]
    assert_same(whole, gmm.fit(data, 4, **options, checkpoint=path))


def test_an_interrupt_between_two_runs_loses_none(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options: dict[str, Any] = {"start": "random", "n_starts": 3, "random_state": 0}
    whole = gmm.fit(X, 2, **options)
    real, calls = gmm.initial.starting_mixture, 0

    def third_is_interrupted(*args: Any, **kwargs: Any) -> gmm.Mixture:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr("gmm.starts.starting_mixture", third_is_interrupted)
    first = gmm.fit(X, 2, **options, checkpoint=path)
    assert [run.reason for run in first.starts] == ["converged", "converged", "interrupted"]
    assert_same(whole, gmm.fit(X, 2, **options, checkpoint=path))
    assert calls == 4  # neither of the two runs that were over was made again


def test_an_interrupt_before_anything_is_reached_keeps_the_seeds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a seed two fits would differ; the second goes on with the draw of the first."""

    def interrupted(*args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("gmm.sweep.Sweep.__call__", interrupted)
        with pytest.raises(KeyboardInterrupt):
            gmm.fit(X, 3, start="random", checkpoint=path)
    content = path.read_bytes()
    fits = []
    for _ in range(2):
        path.write_bytes(content)
        fits.append(gmm.fit(X, 3, start="random", checkpoint=path))
    assert_same(*fits)


def test_the_callback_may_stop_a_fit_that_goes_on_later(path: Path) -> None:
    whole = gmm.fit(X, 3, **LONG)
    first = gmm.fit(X, 3, **LONG, checkpoint=path, callback=lambda p: p.iteration == 6)
    assert (first.reason, first.n_iter) == ("callback", 6)
    seen: list[int] = []
    rest = gmm.fit(X, 3, **LONG, checkpoint=path, callback=lambda p: seen.append(p.iteration))
    assert seen == list(range(7, 25))  # that of iteration 6 had come to its end
    assert_same(whole, rest)


def test_an_error_in_the_callback_keeps_where_the_fit_was(path: Path) -> None:
    def fails(progress: gmm.Progress) -> None:
        if progress.iteration == 6:
            raise OSError("the disk of the callback is full")

    with pytest.raises(OSError, match="of the callback"):
        gmm.fit(X, 3, **LONG, checkpoint=path, callback=fails)
    assert_same(gmm.fit(X, 3, **LONG), gmm.fit(X, 3, **LONG, checkpoint=path))


@pytest.mark.derives("prop-continuation")
def test_the_fit_of_the_chapter_goes_on_to_the_same_bits(path: Path, old_faithful: Floats) -> None:
    options: dict[str, Any] = {"start": "random", "random_state": 3, "accelerate": "squarem"}
    whole = assert_continues(path, old_faithful, 3, at=20, tol=1e-12, **options)
    assert whole.reason == "converged"


def test_a_mixture_alone_is_no_checkpoint(old_faithful: Floats) -> None:
    """Plain EM goes on from it but for rounding; an accelerator has lost its memory."""
    ends = {}
    for accelerate in ("none", "squarem"):
        first: dict[str, Any] = {"start": "random", "random_state": 3, "accelerate": accelerate}
        whole = gmm.fit(old_faithful, 3, **first, tol=1e-10)
        ends[accelerate] = [whole.n_iter]
        for t in range(5, 35, 5):
            part = gmm.fit(old_faithful, 3, **first, tol=0, max_iter=t)
            rest = gmm.fit(old_faithful, 3, **{**first, "start": part.mixture}, tol=1e-10)
            ends[accelerate].append(t + rest.n_iter)
            assert rest.log_likelihood == pytest.approx(whole.log_likelihood, abs=1e-4)
    assert len(set(ends["none"])) == 1
    assert len(set(ends["squarem"])) > 1


def test_seconds_go_on_from_where_they_were(path: Path) -> None:
    first = gmm.fit(X, 3, **LONG, checkpoint=path, callback=interrupted_at(9))
    rest = gmm.fit(X, 3, **LONG, checkpoint=path)
    np.testing.assert_array_equal(first.trace.seconds[:9], rest.trace.seconds[:9])
    assert (np.diff(rest.trace.seconds) > 0).all()


KILLED = """
import os, signal, sys
import gmm

def callback(progress):
    if progress.iteration == {at}:
        os.kill(os.getpid(), signal.SIGKILL)

gmm.fit(gmm.datasets.iris().X, 3, start="random", random_state=1, tol=0.0, max_iter=24,
        accelerate="squarem", checkpoint={path!r}, checkpoint_every={every}, callback=callback)
"""


@pytest.mark.parametrize(("every", "at", "first"), [(4, 13, 12), (1, 13, 13), (None, 13, 0)])
def test_a_process_that_was_killed_has_left_its_last_checkpoint(
    every: int | None, at: int, first: int, path: Path
) -> None:
    """No handler runs: with every=4 the file is that of iteration 11, the twelfth to be noted."""
    code = KILLED.format(at=at, path=str(path), every=every)
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    seen: list[int] = []
    rest = gmm.fit(
        X,
        3,
        accelerate="squarem",
        **LONG,
        checkpoint=path,
        callback=lambda p: seen.append(p.iteration),
    )
    assert seen == list(range(first, 25))
    assert_same(gmm.fit(X, 3, accelerate="squarem", **LONG), rest)


def test_time_decides_when_no_number_is_given(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    times: list[int] = []
    real = write_tree

    def counted(*args: Any) -> None:
        times.append(1)
        real(*args)

    monkeypatch.setattr(module, "write_tree", counted)
    gmm.fit(X, 3, **LONG, checkpoint=path)
    assert len(times) == 1  # at the beginning; a minute does not pass
    monkeypatch.setattr(module, "SECONDS", 0.0)
    gmm.fit(X, 3, **LONG, checkpoint=path)
    assert len(times) == 1 + 1 + 25  # and after the start and each iteration


def test_a_fit_of_which_every_run_collapses_leaves_no_file(path: Path) -> None:
    with pytest.raises(gmm.SingularCovarianceError):
        gmm.fit(np.arange(6.0).reshape(3, 2), 3, random_state=0, checkpoint=path)
    assert not path.exists()


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tol": 1e-6}, r"tol 0\.0 \(here 1e-06\)"),
        ({"max_iter": 30}, r"max_iter 24 \(here 30\)"),
        ({"stop": "aitken"}, r"stop 'mean' \(here 'aitken'\)"),
        ({"ridge": 0.1}, r"ridge 0\.0 \(here 0\.1\)"),
        ({"family": "EEE"}, r"family 'VVV' \(here 'EEE'\)"),
        ({"n_components": 4}, r"n_components 3 \(here 4\)"),
        ({"n_starts": 2}, r"n_starts 1 \(here 2\)"),
        ({"start": "k-means"}, r"start 'random' \(here 'k-means'\)"),
        ({"start": X[:3]}, r"start 'random' \(here an array\)"),
        ({"random_state": 2}, r"random_state 1 \(here 2\)"),
        ({"random_state": None}, r"random_state 1 \(here None\)"),
        ({"random_state": np.random.default_rng(1)}, r"random_state 1 \(here 'a generator'\)"),
        ({"accelerate": "auto"}, r"accelerate 'none' \(here 'auto'\)"),
        ({"fixed": "weights"}, r"fixed '' \(here 'weights'\)"),
        ({"keep": "all"}, r"keep 'every 0, \[\]' \(here 'every 1, \[\]'\)"),
        ({"prior": "default"}, r"prior None \(here an array\)"),
        ({"missing": "em"}, r"missing 'raise' \(here 'em'\)"),
        ({"X": X + np.eye(150, 4)}, "other X;"),
        ({"X": X[::-1]}, "other X;"),
        ({"X": X[:, :3]}, r"n_features 4 \(here 3\), other X"),
        ({"X": X[:149]}, r"n_rows 150 \(here 149\), other X"),
        ({"sample_weight": WEIGHTS}, "other sample_weight"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_a_checkpoint_of_another_fit_is_refused(
    change: dict[str, Any], message: str, path: Path
) -> None:
    options = {"X": X, "n_components": 3, "family": "VVV", **LONG}
    gmm.fit(**options, checkpoint=path, callback=interrupted_at(5))
    content = path.read_bytes()
    with pytest.raises(
        ValueError, match=rf"checkpoint: expected .* got {path} with (.*, )?{message}"
    ):
        gmm.fit(**{**options, **change}, checkpoint=path)
    assert path.read_bytes() == content


def test_two_arrays_as_starts_are_told_apart(path: Path) -> None:
    options: dict[str, Any] = {"tol": 0.0, "max_iter": 24}
    gmm.fit(X, 3, start=X[:3], **options, checkpoint=path, callback=interrupted_at(5))
    with pytest.raises(ValueError, match="with other start;"):
        gmm.fit(X, 3, start=X[1:4], **options, checkpoint=path)


def test_numbers_of_numpy_are_the_numbers(path: Path) -> None:
    first = {**LONG, "random_state": np.int64(1), "tol": np.float64(0.0), "max_iter": np.int32(24)}
    first |= {"n_components": np.int64(3), "n_starts": np.int8(1)}
    gmm.fit(X, **first, checkpoint=path, callback=interrupted_at(5))
    assert_same(gmm.fit(X, 3, **LONG), gmm.fit(X, 3, **LONG, checkpoint=path))


def test_what_does_not_change_the_bits_may_be_another(path: Path) -> None:
    gmm.fit(X, 3, **LONG, checkpoint=path, checkpoint_every=2, callback=interrupted_at(5))
    rest = gmm.fit(X, 3, **LONG, checkpoint=path, checkpoint_every=5, callback=lambda p: None)
    assert_same(gmm.fit(X, 3, **LONG), rest)


def written(path: Path) -> bytes:
    """The content of a checkpoint with all kinds of values in it."""
    gmm.fit(X[:, :2], 2, accelerate="anderson", **LONG, keep=3, checkpoint=path,
            callback=interrupted_at(12))  # fmt: skip
    return path.read_bytes()


def test_a_file_that_is_cut_short_anywhere_is_refused(path: Path) -> None:
    content = written(path)
    for length in [*range(0, len(content), 29), *range(len(content) - 30, len(content))]:
        path.write_bytes(content[:length])
        with pytest.raises(gmm.FileFormatError, match=r"expected a checkpoint of gmm\.fit, got"):
            gmm.fit(X[:, :2], 2, accelerate="anderson", **LONG, keep=3, checkpoint=path)
        assert path.read_bytes() == content[:length]  # it is not taken for the user's wish


def test_a_changed_byte_is_refused_or_changes_nothing(path: Path) -> None:
    """Each member has a checksum; what lies between the members is not all looked at."""
    content = written(path)
    whole = gmm.fit(X[:, :2], 2, accelerate="anderson", **LONG, keep=3)
    refused = 0
    for place in range(0, len(content), 61):
        changed = bytearray(content)
        changed[place] ^= 0x15
        path.write_bytes(changed)
        try:
            fit = gmm.fit(X[:, :2], 2, accelerate="anderson", **LONG, keep=3, checkpoint=path)
        except gmm.FileFormatError:
            refused += 1
        else:
            assert_same(whole, fit)
    assert refused > 100


class Trap:
    """Unpickling this would end the test run."""

    def __reduce__(self) -> tuple[object, tuple[int]]:
        return sys.exit, (1,)


def test_a_pickle_is_never_read(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))
    with pytest.raises(gmm.FileFormatError, match="expected a checkpoint"):
        gmm.fit(X, 2, checkpoint=path)
    array = np.empty(1, dtype=object)
    array[0] = Trap()
    with path.open("wb") as file:
        np.savez(file, format=array, version=array, tree=array)
    with pytest.raises(gmm.FileFormatError, match="expected a checkpoint"):
        gmm.fit(X, 2, checkpoint=path)


def test_other_files_and_newer_ones_are_refused(path: Path) -> None:
    gmm.fit(X, 2, random_state=0).mixture.save(path)
    with pytest.raises(gmm.FileFormatError, match="got another format"):
        gmm.fit(X, 2, checkpoint=path)
    write_tree(path, module.FILE_FORMAT, module.FILE_VERSION + 1, {})
    with pytest.raises(gmm.FileFormatError, match="written by a newer version of gmm"):
        gmm.fit(X, 2, checkpoint=path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("format.npy", "checkpoint of gmm.fit")
    with pytest.raises(gmm.FileFormatError, match="expected a checkpoint"):
        gmm.fit(X, 2, checkpoint=path)


def test_paths_and_numbers_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="checkpoint: expected a file in a directory that exists"):
        gmm.fit(X, 2, checkpoint=tmp_path / "absent" / "file")
    with pytest.raises(ValueError, match="checkpoint: expected a file in a directory that exists"):
        gmm.fit(X, 2, checkpoint=tmp_path)
    with pytest.raises(TypeError, match="checkpoint: expected a path, got 3"):
        gmm.fit(X, 2, checkpoint=3)  # type: ignore[arg-type]  # meant
    with pytest.raises(ValueError, match="checkpoint_every: expected an integer of at least 1"):
        gmm.fit(X, 2, checkpoint=tmp_path / "file", checkpoint_every=0)
    with pytest.raises(ValueError, match="checkpoint_every: expected None without a checkpoint"):
        gmm.fit(X, 2, checkpoint_every=10)


# ---------------------------------------------------------------- forgeries


#: Three starts, of which the second is cut off; with what an accelerator remembers.
FORGED: dict[str, Any] = {**LONG, "n_starts": 3, "keep": 3, "accelerate": "lbfgs"}


@pytest.fixture(scope="module")
def genuine(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What a checkpoint says, between the first run and the end of the second."""
    path = tmp_path_factory.mktemp("genuine") / "fit.checkpoint"
    seen: list[int] = []

    def callback(progress: gmm.Progress) -> None:
        seen.append(progress.iteration)
        if seen.count(9) == 2:
            raise KeyboardInterrupt

    gmm.fit(X[:, :2], 2, **FORGED, checkpoint=path, callback=callback)
    return read_tree(path, module.FILE_FORMAT, module.FILE_VERSION)


def test_a_forgery_without_a_change_goes_on(genuine: Any, path: Path) -> None:
    write_tree(path, module.FILE_FORMAT, module.FILE_VERSION, genuine)
    whole = gmm.fit(X[:, :2], 2, **FORGED)
    assert_same(whole, gmm.fit(X[:, :2], 2, **FORGED, checkpoint=path))


def test_a_forgery_whose_mixtures_differ_is_refused(path: Path) -> None:
    """Of the families without steps in plain numbers."""
    gmm.fit(X, 3, "VEV", **LONG, checkpoint=path, callback=interrupted_at(9))
    tree = read_tree(path, module.FILE_FORMAT, module.FILE_VERSION)
    place = ("contents", "course", "parameters", "made")
    write_tree(path, module.FILE_FORMAT, module.FILE_VERSION, replaced(tree, place, FIRST))
    with pytest.raises(gmm.FileFormatError, match="mixtures of different kinds"):
        gmm.fit(X, 3, "VEV", **LONG, checkpoint=path)


def come_to_nothing(contents: dict[str, Any]) -> dict[str, Any]:
    return {**contents, "runs": 3 * contents["runs"], "best": None}


def of_negative_weights(components: list[list[float]]) -> list[list[float]]:
    return [[-component[0], *component[1:]] for component in components]


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ((), {}, "no fit"),
        (("subject",), [], "a fit of nothing"),
        (("contents", "seeds"), "three", "seeds that are no numbers"),
        (("contents", "seeds"), np.arange(2), "seeds of 2 numbers"),
        (("contents", "seeds"), np.arange(3) - 1, "seeds that are no counts"),
        (("contents", "runs"), lambda runs: 4 * runs, "4 runs from 3 starts"),
        (("contents", "runs", 0, 1), "nine", "a run of another kind"),
        (("contents", "best", "mixture"), None, "no mixture"),
        (("contents", "best", "mixture"), FIRST, "a mixture of another kind"),
        (("contents", "best", "trace", 0), np.array([np.nan]), "a trace that are not finite"),
        (("contents", "best", "trace", 0), np.ones(1), "a trace of unequal parts"),
        (("contents", "best", "kept", 0, 0), "first", "iterations that are no numbers"),
        (("contents",), come_to_nothing, "runs that have come to nothing"),
        (("contents", "course", "passes"), np.arange(9.0), "passes that are no counts"),
        (("contents", "course", "way", "enough"), "much", "enough of another kind"),
        (("contents", "course", "way", "early"), 3, "early of another kind"),
        (("contents", "course", "rule", "tol"), 1.0, "another stopping rule"),
        (("contents", "course", "em_steps"), 0.5, "a state of another kind"),
        (("contents", "course", "is_near"), None, "a state of another kind"),
        (("contents", "course", "parameters", "components"), [[1.0]], "components of another kind"),
        (
            ("contents", "course", "parameters", "components"),
            of_negative_weights,
            "other things than numbers",
        ),
    ],
)
def test_a_forgery_is_refused(
    place: tuple[Any, ...], value: Any, message: str, genuine: Any, path: Path
) -> None:
    write_tree(path, module.FILE_FORMAT, module.FILE_VERSION, replaced(genuine, place, value))
    with pytest.raises(
        gmm.FileFormatError, match=f"expected a checkpoint of gmm.fit, got .*{message}"
    ):
        gmm.fit(X[:, :2], 2, **FORGED, checkpoint=path)
    assert path.exists()


# ---------------------------------------------------------------- what a fit is of


def test_digests_tell_rows_weights_and_their_order_apart() -> None:
    digests = {
        digest_of(rows)
        for rows in (
            as_rows(X),
            as_rows(X[::-1]),
            as_rows(X[:100]),
            as_rows(X.T),
            as_rows(np.nextafter(X, 9.0)),
            as_rows(X, WEIGHTS),
            as_rows(X, WEIGHTS[::-1]),
            IncompleteRows(np.where(X == X[0, 0], np.nan, X)),
        )
    }
    assert len(digests) == 8
    assert digest_of(as_rows(X)) == digest_of(as_rows(X.copy(order="F")))
    assert digest_of(as_rows(X)) == digest_of(as_rows(X.tolist()))
    assert digest_of(as_rows(X)).weights == digest_of(as_rows(X[::-1])).weights


def test_digests_of_parts_add_in_their_order() -> None:
    one, two = Digest.of(X[:70], None), Digest.of(X[70:], None)
    assert digest_of(BlockRows(halves)) == one + two != two + one
    in_chunks = as_source(dask.array.from_array(X, chunks=((70, 80), (4,))))
    assert digest_of(in_chunks) == one + two


def test_short_arguments_are_told_as_they_are_and_long_ones_by_a_digest() -> None:
    assert [told(value) for value in (None, True, 3, 0.1, "VVV")] == [None, True, 3, 0.1, "VVV"]
    mixture = gmm.fit(X, 2, random_state=0).mixture
    prior = gmm.default_prior(X, 2)
    texts = [told(v) for v in (mixture, mixture.reordered([1, 0]), prior, X, X.tolist(), X.T)]
    assert all(isinstance(text, str) and text.startswith("sha256 ") for text in texts)
    assert len(set(texts)) == 5  # a list of lists is the array that it makes
    assert told(mixture) == told(mixture.reordered([0, 1]))


# ---------------------------------------------------------------- what an ascent remembers


@pytest.mark.parametrize("n_steps", range(1, 16))
@pytest.mark.parametrize("name", ACCELERATIONS)
def test_an_ascent_goes_on_like_one_that_is_told_what_it_remembers(name: str, n_steps: int) -> None:
    rows = as_rows(X)
    steps = steps_for(rows, 3, "VVV", 0.0, None, frozenset())

    def followed(way: Ascent, state: State, gain: float) -> tuple[list[State], float]:
        states = [state]
        for _ in range(n_steps):
            states.append(way.advance(steps, states[-1], gain)[0])
            gain = states[-1].objective - states[-2].objective
        return states, gain

    way = ascent(name, 150.0)
    begin = steps.begin(starting_mixture(X, 3, "VVV", "random", 1))
    states, gain = followed(way, State(begin, *steps.expect(begin)), np.inf)
    memory = inner_state(way)
    before = repr(memory)
    expected, _ = followed(way, states[-1], gain)
    assert repr(memory) == before  # what was told is not changed by the steps that follow
    other = ascent(name, 150.0)
    set_inner_state(other, memory)
    found, _ = followed(other, states[-1], gain)
    assert [state.objective for state in found] == [state.objective for state in expected]

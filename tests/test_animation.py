"""The animation shows what the fit kept, and its files are whole or not there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.animation import AbstractMovieWriter
from matplotlib.colors import to_rgb
from numpy.typing import NDArray
from PIL import Image

import gmm
from gmm import plots

pytestmark = pytest.mark.usefixtures("drawing")

Floats = NDArray[np.float64]


@pytest.fixture
def fit(old_faithful: Floats) -> gmm.Fit:
    """Seven iterations, of which four are kept: 0, 3, 6, 7."""
    return gmm.fit(old_faithful, 2, start="random", tol=0, max_iter=7, keep=3, random_state=0)


class Recorder(AbstractMovieWriter):
    """Notes what is in each frame instead of drawing it."""

    def __init__(self) -> None:
        super().__init__()
        self.frames: list[dict[str, Any]] = []

    def setup(self, fig: Any, outfile: Any, dpi: float | None = None) -> None:
        super().setup(fig, outfile, dpi)

    def grab_frame(self, **kwargs: Any) -> None:
        left, right = self.fig.axes
        self.frames.append(
            {
                "title": left.get_title(),
                "colours": np.asarray(left.collections[0].get_facecolor())[:, :3],
                "rows": np.asarray(left.collections[0].get_offsets()),
                "ellipses": [np.column_stack(line.get_data()) for line in left.lines[::2]],
                "trace": np.asarray(right.lines[0].get_ydata()),
            }
        )

    def finish(self) -> None:
        pass


def test_frames_show_the_kept_mixtures_and_the_trace_so_far(
    fit: gmm.Fit, old_faithful: Floats, tmp_path: Path
) -> None:
    recorder = Recorder()
    plots.animation(fit, old_faithful, n_sigmas=1.5).save(tmp_path / "none", writer=recorder)
    assert [f["title"] for f in recorder.frames] == [f"iteration {i}" for i in (0, 3, 6, 7)]
    palette = np.array([to_rgb(c) for c in plots.PALETTE[:2]])
    for i, frame in zip((0, 3, 6, 7), recorder.frames, strict=True):
        mixture = fit.trace.mixtures[i]
        np.testing.assert_array_equal(frame["rows"], old_faithful)
        shares = mixture.responsibilities(old_faithful)
        np.testing.assert_allclose(frame["colours"], shares @ palette, atol=1e-12)
        for k, curve in enumerate(frame["ellipses"]):
            np.testing.assert_allclose(mixture.component(k).mahalanobis(curve), 2.25, rtol=1e-9)
        np.testing.assert_array_equal(frame["trace"], fit.trace.log_likelihood[: i + 1])


def test_features_of_many_are_chosen(tmp_path: Path) -> None:
    X = gmm.datasets.iris().X
    kept = gmm.fit(X, 3, tol=0, max_iter=2, keep="all", random_state=0)
    recorder = Recorder()
    plots.animation(kept, X, features=(3, 1)).save(tmp_path / "none", writer=recorder)
    np.testing.assert_array_equal(recorder.frames[0]["rows"], X[:, [3, 1]])


def test_a_gif_has_a_frame_for_each_kept_mixture_on_an_opaque_page(
    fit: gmm.Fit, old_faithful: Floats, tmp_path: Path
) -> None:
    path = tmp_path / "fit.gif"
    plots.animation(fit, old_faithful, path, interval=250)
    with Image.open(path) as image:
        assert image.format == "GIF"
        assert image.n_frames == 4  # type: ignore[attr-defined]  # that of the GIF reader
        assert image.info["duration"] == 250
        for i in range(4):
            image.seek(i)
            assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
    assert os.listdir(tmp_path) == ["fit.gif"]


def test_a_page_holds_all_frames(fit: gmm.Fit, old_faithful: Floats, tmp_path: Path) -> None:
    path = tmp_path / "fit.html"
    with plt.rc_context({"animation.embed_limit": 0.01}):  # ours holds, not the user's
        plots.animation(fit, old_faithful, path)
    text = path.read_text()
    assert text.count("data:image/png;base64") == 4
    assert "<script" in text


def stand_in(folder: Path) -> Path:
    """A program called as ffmpeg is: it copies the raw frames to the file named last."""
    program = folder / "ffmpeg"
    program.write_text('#!/bin/sh\nfor last; do :; done\nexec cat > "$last"\n')
    program.chmod(0o755)
    return program


def test_mp4_passes_the_frames_to_ffmpeg(
    fit: gmm.Fit, old_faithful: Floats, tmp_path: Path
) -> None:
    path = tmp_path / "film"
    with plt.rc_context({"animation.ffmpeg_path": str(stand_in(tmp_path))}):
        plots.animation(fit, old_faithful, path, format="mp4")
    width, height = (2 * (int(v) // 2) for v in plt.gcf().bbox.size)  # codecs want even sizes
    assert path.stat().st_size == 4 * width * height * 4  # frames, pixels, bytes of a pixel


def test_without_ffmpeg_the_error_says_what_to_install(
    fit: gmm.Fit, old_faithful: Floats, tmp_path: Path
) -> None:
    absent: Any = {"animation.ffmpeg_path": str(tmp_path / "absent")}
    with plt.rc_context(absent), pytest.raises(RuntimeError, match=r"install it .*ffmpeg"):
        plots.animation(fit, old_faithful, tmp_path / "fit.mp4")
    assert not plt.get_fignums()


def test_a_failure_leaves_the_old_file(fit: gmm.Fit, old_faithful: Floats, tmp_path: Path) -> None:
    path = tmp_path / "fit.mp4"
    path.write_bytes(b"old")
    program = stand_in(tmp_path)
    program.write_text("#!/bin/sh\ncat > /dev/null\nexit 1\n")
    failing: Any = {"animation.ffmpeg_path": str(program)}
    with plt.rc_context(failing), pytest.raises(Exception, match="ffmpeg"):
        plots.animation(fit, old_faithful, path)
    assert path.read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == ["ffmpeg", "fit.mp4"]


def test_bad_arguments_are_refused(fit: gmm.Fit, old_faithful: Floats, tmp_path: Path) -> None:
    bare = gmm.fit(old_faithful, 2, random_state=0)
    with pytest.raises(ValueError, match=r"two iterations or more, got \[\]; make it by gmm.fit"):
        plots.animation(bare, old_faithful)
    with pytest.raises(ValueError, match="format: expected one of 'html', 'gif', 'mp4'; got 'avi'"):
        plots.animation(fit, old_faithful, tmp_path / "fit.avi")
    with pytest.raises(ValueError, match=r"format: expected one of .* got 'png'"):
        plots.animation(fit, old_faithful, tmp_path / "fit.gif", format="png")
    with pytest.raises(ValueError, match="format: expected a path to write 'gif' to, got none"):
        plots.animation(fit, old_faithful, format="gif")
    with pytest.raises(ValueError, match="X: expected 2 features, got 1"):
        plots.animation(fit, old_faithful[:, :1])
    with pytest.raises(ValueError, match="interval: expected a positive number, got 0"):
        plots.animation(fit, old_faithful, interval=0)
    assert not plt.get_fignums()

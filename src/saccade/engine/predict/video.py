"""Predict videos: one row a clip, in order, resumable as for pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from saccade.data.clips import open_clips
from saccade.data.video_clips import ClipDataset
from saccade.engine.predict.journal import Journal, check_out, skipped_path
from saccade.engine.predict.run import Prediction, cut_row, fingerprint, identity
from saccade.engine.sessions.video import VideoPredictor
from saccade.errors import ConfigError
from saccade.tasks.classify.task import TOP


def predict_video(
    videos: str,
    weights: Path | str,
    out: Path | str,
    *,
    batch: int = 0,
    topk: int = 1,
    restart: bool = False,
    notify: Callable[[str], None] | None = None,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Prediction:
    """Run a classifier over videos and write one row a clip: name, label, confidence and the runners-up.

    Stopped at any moment, the same call goes on where it was; see `Journal`.

    Args:
        videos: Folder (searched to the bottom), one video, a table, or clips.
        weights: Run folder or weights file.
        out: .csv, .jsonl, or .npz (which holds the logits too).
        batch: Clips at a time; 0: a few.
        topk: Answers in each row, 1 to 5.
        restart: Forget what an earlier run left.
        notify: Called with sentences about the work.
        progress: Called with (clips done, clips in all).
        **options: As of `VideoPredictor`: size, frames, views, backend, precision, device, threads.

    Raises:
        DataError: No videos.
        ConfigError: A setting out of range, or other settings than the run to be continued.
    """
    if not 1 <= topk <= TOP:
        raise ConfigError(f"topk is {topk}; expected 1 to {TOP}")
    check_out(out)
    say = notify or (lambda _: None)
    source = open_clips(videos, classes=False)
    predictor = VideoPredictor(weights, **options)
    card, preprocess = predictor.card, predictor.preprocess
    settings = {
        "weights": identity(weights, card),
        "preprocess": preprocess.to_dict(),
        "topk": topk,
        "pictures": fingerprint(source),
    }
    width = card.num_classes if Path(out).suffix.lower() == ".npz" else 0
    begin, dataset = time.perf_counter(), ClipDataset(source, preprocess)
    with Journal(out, settings, width=width, restart=restart) as journal:
        if journal.resumed:
            say(f"{journal.path}: {journal.resumed} of {len(source)} videos are done already, going on")
        left = len(source) - journal.done
        for one, outputs in predictor.run(dataset, batch=batch, start=journal.done) if left else ():
            first = journal.done
            rows = [cut_row(row, topk) for row in predictor.task.rows(outputs, one, card, None)]
            places = one["index"].tolist()
            count = len(places) + len(one["skipped"])
            missing = sorted(set(range(first, first + count)) - set(places))
            skipped = [(place, *entry) for place, entry in zip(missing, one["skipped"], strict=True)]
            vectors = outputs.numpy() if journal.width and rows else None
            journal.append(list(zip(places, rows, strict=True)), skipped, vectors)
            if progress is not None:
                progress(journal.done, len(source))
        seconds = time.perf_counter() - begin
        journal.finish()
        if journal.skipped:
            say(
                f"{len(journal.skipped)} videos have no answer; they are listed with the reasons in "
                f"{skipped_path(journal.out)}"
            )
        setting = {
            "model": card.model,
            "backend": "torch",
            "size": preprocess.size,
            "frames": preprocess.frames,
            "views": preprocess.views,
        }
        rate = left / seconds if left else 0.0
        count = journal.done - len(journal.skipped)
        return Prediction(journal.out, count, journal.skipped, journal.resumed, seconds, rate, setting)

"""`saccade predict`: run a model over a folder of images at full speed."""

import functools
from pathlib import Path
from typing import Annotated, Any

import cyclopts

from saccade.cli import show

Flag = Annotated[bool, cyclopts.Parameter(negative="")]


def predict(
    pictures: str,
    /,
    *,
    weights: str,
    out: Path | None = None,
    backend: str = "auto",
    precision: str = "float32",
    topk: int = 1,
    threshold: float = 0.3,
    size: int = 0,
    batch: int = 0,
    device: str = "cpu",
    threads: int = 0,
    restart: Annotated[Flag, cyclopts.Parameter(show=False)] = False,
    frames: Annotated[int, cyclopts.Parameter(show=False)] = 0,
    views: Annotated[str, cyclopts.Parameter(show=False)] = "1x1",
    json: Flag = False,
) -> None:
    """Run a model over a folder of images at full speed; the same command goes on where a stopped one was.

    A detector or segmenter draws boxes, masks and class maps; a classifier of videos takes a folder of videos.
    --restart begins anew instead of going on.

    Example: saccade predict pictures/ --weights runs/x --out predictions.csv

    Args:
        pictures: Folder (searched to the bottom), one image, table, shards or built-in name.
        weights: Run folder, weights file, bundle or model name.
        out: File for the rows: .csv, .jsonl, or .npz (which holds the logits too); predictions.csv when left out.
            Of a detector or segmenter a folder; predictions when left out.
        backend: auto takes the fastest that passes its check on this machine.
        precision: float32, bf16 or int8, where the backend has it.
        topk: Answers in each row, 1 to 5.
        threshold: Detections below this score are left out.
        size: Side of the square input in pixels; 0: that of the weights.
        batch: Images at a time; 0: the fastest of a few.
        device: cpu, cuda, cuda:N or mps.
        threads: Cores to use; 0: all.
        restart: Begin anew instead of going on with a stopped run.
        frames: Of a clip; 0: those of the weights.
        views: Of videos: 1x1, 1x3, 4x1, 4x3 or 10x3, temporal times spatial.
        json: Print one JSON object.
    """
    from saccade.engine.predict.dense import predict_dense
    from saccade.engine.predict.run import predict as predict_pictures
    from saccade.engine.predict.video import predict_video
    from saccade.engine.sessions.dense import is_dense
    from saccade.engine.sessions.video import is_video

    bar = show.progress()
    with bar:
        task = bar.add_task("predicting", total=None, info="")
        shared: dict[str, Any] = {
            "threads": threads or None,
            "device": device,
            "size": size,
            "restart": restart,
        }
        shared["notify"] = show.note
        shared["progress"] = lambda count, total: bar.update(task, completed=count, total=total)
        if is_dense(weights):
            folder = out or Path("predictions")
            done = predict_dense(pictures, weights, folder, backend=backend, threshold=threshold, **shared)
        else:
            run: Any = predict_pictures
            if is_video(weights):
                run = functools.partial(predict_video, frames=frames, views=views)
            done = run(
                pictures,
                weights,
                out or Path("predictions.csv"),
                backend=backend,
                precision=precision,
                batch=batch,
                topk=topk,
                **shared,
            )
    for name, reason in done.skipped[:20]:
        show.note(f"left out {name}: {reason}")
    if len(done.skipped) > 20:
        show.note(f"and {len(done.skipped) - 20} more")
    values = {"out": str(done.out), "rows": done.rows, "skipped": len(done.skipped), "resumed": done.resumed}
    values |= {"seconds": round(done.seconds, 3), "images_per_s": round(done.images_per_s, 1)}
    show.result(values | done.setting, as_json=json)

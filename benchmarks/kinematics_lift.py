"""How good are labels from plain video?

    nice python benchmarks/kinematics_lift.py [--clips 200] [--seed 2026] [--clip-bias 0] [--rows FILE]

Clips of the synthetic world, whose truth is exact, go through the pixel pipeline: pictures as they are, depth and
masks with flaws (`saccade.kinematics.lift.world.Flaws`), the camera's path in an unknown unit, focal length from the
depth stage. Cameras stand, drive, turn, and do both, a quarter of the clips each. A label's truth is the exact path
over the label's own run of grid times. Thresholds were chosen on other worlds (seeds 9000 to 9047).

Every finished clip is a line of the file of rows, so a killed run goes on where it was. At the end tables are
printed, appended to benchmarks/results/kinematics_lift.csv and kinematics_lift_filters.csv, and drawn to
docs/images/kinematics_lift.svg.
"""

import argparse
import itertools
import json
from collections import Counter
from pathlib import Path

import numpy as np
from table import append

HERE = Path(__file__).parent
METHODS = ("barycentre", "rigid", "rigid, two stacks")
DISTANCE_M = (4.0, 15.0)
"""Of objects at the moment that they are placed for: in pictures 320 pixels wide, farther ones are too small."""


def run_clip(number: int, options: argparse.Namespace) -> dict:
    """Label one clip and compare with the truth."""
    from saccade.kinematics import label_track
    from saccade.kinematics.lift.barycentre import Barycentre
    from saccade.kinematics.lift.pipeline import pseudo_label
    from saccade.kinematics.lift.rigid import Rigid
    from saccade.kinematics.lift.stages import ClipRejected
    from saccade.kinematics.lift.world import Flaws, WorldMasks, world_stack
    from saccade.kinematics.sources.world import PER_SEED
    from saccade.worlds import CAMERAS, make_world, render

    camera = CAMERAS[number % len(CAMERAS)]
    world = make_world(
        options.seed * PER_SEED + number, seconds=options.seconds, cameras=(camera,), distance_m=DISTANCE_M
    )
    times = np.arange(0, options.seconds + 1e-6, 0.5)
    clip = render(world, times, (3 * options.size // 4, options.size))
    flaws = Flaws(clip_bias=options.clip_bias)
    placed: dict[str, dict] = {}

    class Both:
        """Places with both methods; the first stack comes first."""

        def __call__(self, track, scene):
            body = Rigid()(track, scene)
            if track.track_id not in placed:
                try:
                    simple = Barycentre()(track, scene).points
                except ClipRejected:
                    simple = np.full_like(body.points, np.nan)
                placed[track.track_id] = {"up": scene.up, "rigid": body.points, "barycentre": simple}
            return body

    found = pseudo_label(
        f"{options.seed}-{number}", clip.images, times, find=WorldMasks(clip, 0), stack=world_stack(clip, 0, flaws),
        second=world_stack(clip, 1, flaws), lift=Both(),
    )  # fmt: skip
    reasons = {
        row.reason.split(" ")[1]: row.record for row in found.rejected if row.reason.startswith("track")
    }
    clip_reason = next((row.record for row in found.rejected if row.reason.startswith("clip")), "")
    tracks = []
    for name, paths in placed.items():
        thing = int(name) - 1
        row = {"id": name, "name": world.objects[thing].name, "reason": reasons.get(name, "")}
        row["motion"] = world.objects[thing].motion.kind
        for method in ("rigid", "barycentre"):
            label = label_track(times, paths[method], up=paths["up"])
            if label.t_start_s is None:
                continue
            inside = (times >= label.t_start_s - 1e-6) & (times <= label.t_end_s + 1e-6)
            truth = label_track(times[inside], clip.centres[inside, thing])
            row[method] = {
                "label": plain(label), "truth": plain(truth), "error_m": float(np.linalg.norm(
                    np.diff(label.points, axis=0), axis=1).sum() - truth.distance_m),
            }  # fmt: skip
        tracks.append(row)
    missing = [str(n) for n in range(1, len(world.objects) + 1) if str(n) not in placed]
    return {
        "number": number, "camera": camera, "reason": clip_reason, "objects": len(world.objects), "tracks": tracks,
        "not_placed": {name: reasons.get(name, clip_reason or "never seen") for name in missing},
    }  # fmt: skip


def plain(label) -> dict:
    """What tables need of a label."""
    return {
        "status": label.status, "distance_m": label.distance_m, "speed_kmh": label.speed_kmh,
        "end_clock": label.end_clock, "clocks": label.step_clocks, "times": [float(t) for t in label.times],
        "points": label.points.round(4).tolist(), "up": label.up.tolist(),
    }  # fmt: skip


def used(row: dict, method: str) -> bool:
    """Whether a track's label of a method counts: it passed the rules (and the second stack) and moves."""
    late = ("second_stack", "status_disagrees", "distance_disagrees", "hour_disagrees")
    passed = not row["reason"] or (method != METHODS[2] and row["reason"] in late)
    name = method.split(",")[0]
    return passed and name in row and row[name]["label"]["status"] == "ok"


def measure(rows: list[dict], method: str) -> dict[str, list[tuple[float, bool]]]:
    """Errors by task: (size of the error, whether the label is right) of every question that a label could give."""
    from saccade.kinematics import compare_direction, compare_distance, compare_speed
    from saccade.kinematics.answer_scores import interval_iou
    from saccade.kinematics.labels import direction_interval, label_track

    name = method.split(",")[0]
    found: dict[str, list[tuple[float, bool]]] = {task: [] for task in TASKS}
    for row in rows:
        chosen = [track[name] for track in row["tracks"] if used(track, method)]
        labels = []
        for item in chosen:
            one, two = item["label"], item["truth"]
            false_motion = two["status"] != "ok"
            found["moves"].append((float(false_motion), not false_motion))
            pair = [label_track(side["times"], np.array(side["points"]), clip_start_s=side["times"][0], up=side["up"])
                    for side in (one, two)]  # fmt: skip
            labels.append(pair)
            for task, key in (("distance", "distance_m"), ("speed", "speed_kmh")):
                gap = abs(one[key] - two[key]) / max(two[key], 1e-9)
                found[task].append((min(gap, 10.0), gap <= 0.25 + 1e-9))
            if one["end_clock"]:
                truth = two["end_clock"]
                hours = abs(one["end_clock"] - truth) if truth else 6
                found["end hour"].append((min(hours, 12 - hours), hours == 0))
            for hour in sorted({clock for clock in one["clocks"] if clock}):
                asked = direction_interval(pair[0], hour)
                if asked.status == "ok":
                    runs = direction_interval(pair[1], hour).runs if not false_motion else ()
                    best = max((interval_iou(asked.interval_s, run) for run in runs), default=0.0)
                    found["timestamp"].append((1 - best, best >= 0.5))
        for (a, true_a), (b, true_b) in itertools.combinations(labels, 2):
            for task, compare, key in (
                ("farther", compare_distance, "distance_m"), ("faster", compare_speed, "speed_kmh"),
            ):  # fmt: skip
                said = compare(a, b)
                if said.status == "ok":
                    right = (said.answer == "red") == (getattr(true_a, key) > getattr(true_b, key))
                    found[task].append((float(not right), right))
            window = max(a.times[0], b.times[0]), min(a.times[-1], b.times[-1])
            if window[0] < window[1]:
                said = compare_direction(a, b, window)
                if said.status == "ok":
                    truth = compare_direction(true_a, true_b, window)
                    right = truth.angle_deg is not None and (said.answer == "same") == (truth.angle_deg <= 45)
                    found["same way"].append((float(not right), right))
    return found


TASKS = ("moves", "distance", "speed", "end hour", "timestamp", "farther", "faster", "same way")


def label_table(rows: list[dict]) -> list[dict]:
    """One row for each method, camera and task."""
    cameras = sorted({row["camera"] for row in rows})
    table = []
    for method in METHODS:
        for camera in ["all", *cameras]:
            some = [row for row in rows if camera in ("all", row["camera"])]
            for task, errors in measure(some, method).items():
                if errors:
                    sizes = [size for size, _ in errors]
                    table.append({
                        "method": method, "camera": camera, "task": task, "n": len(errors),
                        "median_error": f"{np.median(sizes):.4f}", "mean_error": f"{np.mean(sizes):.4f}",
                        "right": f"{np.mean([right for _, right in errors]):.4f}",
                    })  # fmt: skip
    return table


def filter_table(rows: list[dict]) -> list[dict]:
    """How many clips and tracks each filter rejected."""
    clips = Counter(row["reason"] or "accepted" for row in rows)
    tracks: Counter[str] = Counter()
    for row in rows:
        tracks.update(track["reason"] or "accepted" for track in row["tracks"])
        tracks.update(reason for reason in row["not_placed"].values())
    table = [{"of": "clips", "reason": reason, "n": count} for reason, count in clips.most_common()]
    return table + [{"of": "objects", "reason": reason, "n": count} for reason, count in tracks.most_common()]


def draw(rows: list[dict], path: Path) -> None:
    """Labelled against true distance, and how many labels are how far off."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 4), constrained_layout=True)
    colours = dict(
        zip(
            sorted({row["camera"] for row in rows}),
            ("#4477aa", "#ee6677", "#228833", "#ccbb44"),
            strict=False,
        )
    )
    longest = 1.0
    for camera, colour in colours.items():
        pairs = [
            (track["rigid"]["truth"]["distance_m"], track["rigid"]["label"]["distance_m"])
            for row in rows if row["camera"] == camera for track in row["tracks"] if used(track, METHODS[2])
        ]  # fmt: skip
        if pairs:
            left.scatter(*np.array(pairs).T, s=10, color=colour, label=camera.replace("_", " "), alpha=0.8)
            longest = max(longest, float(np.max(pairs)) * 1.05)
    line = np.array([0, longest])
    left.plot(line, line, color="black", linewidth=0.8)
    left.fill_between(line, 0.75 * line, 1.25 * line, color="black", alpha=0.07, linewidth=0)
    left.set(xlabel="true distance, m", ylabel="labelled distance, m", xlim=line, ylim=line)
    left.legend(title="the camera", frameon=False)
    for method, style in zip(METHODS, (":", "--", "-"), strict=True):
        errors = np.sort([size for size, _ in measure(rows, method)["distance"]])
        right.plot(
            100 * errors, np.arange(1, len(errors) + 1) / len(errors), style, color="black", label=method
        )
    right.axvline(25, color="grey", linewidth=0.8)
    right.set(xlabel="error of the distance, %", ylabel="share of labels below", xlim=(0, 40), ylim=(0, 1))
    right.legend(frameon=False, loc="lower right")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--size", type=int, default=320)
    parser.add_argument("--clip-bias", type=float, default=0.0)
    parser.add_argument("--rows", type=Path, default=Path("kinematics_lift_rows.jsonl"))
    parser.add_argument("--no-append", action="store_true", help="print only: no CSV, no picture")
    options = parser.parse_args()
    import cv2

    from saccade.engine.bench.machine import describe_machine

    cv2.setNumThreads(1)
    done = {}
    if options.rows.exists():
        done = {row["number"]: row for row in map(json.loads, options.rows.read_text().splitlines())}
    with options.rows.open("a") as file:
        for number in range(options.clips):
            if number not in done:
                done[number] = run_clip(number, options)
                file.write(json.dumps(done[number]) + "\n")
                file.flush()
    rows = [done[number] for number in range(options.clips)]
    machine = describe_machine()
    head = {
        "date": machine["date"], "commit": machine["commit"], "clips": len(rows), "seed": options.seed,
        "size": options.size, "clip_bias": options.clip_bias,
    }  # fmt: skip
    for name, table in (
        ("kinematics_lift", label_table(rows)),
        ("kinematics_lift_filters", filter_table(rows)),
    ):
        for row in table:
            print(*row.values(), sep="\t")
        if not options.no_append:
            append(HERE / "results" / f"{name}.csv", [{**head, **row} for row in table])
    if not options.no_append:
        draw(rows, HERE.parent / "docs" / "images" / "kinematics_lift.svg")


if __name__ == "__main__":
    main()

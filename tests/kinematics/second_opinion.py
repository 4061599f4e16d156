"""Labels and answers once more, in plain Python, sharing no code with the package: a second program that must agree.

    python -m tests.kinematics.second_opinion LABELS QUESTIONS.jsonl

LABELS is a folder of `saccade kinematics label`, QUESTIONS were made of it with the same, default definitions.
"""

import itertools
import json
import math
import sys
from collections import Counter
from pathlib import Path


def minus(a, b):
    return [x - y for x, y in zip(a, b, strict=True)]


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def length(a):
    return math.sqrt(dot(a, a))


def cross(a, b):
    return [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]]


def flat(step, up):
    return minus(step, [dot(step, up) * part for part in up])


def place(rows, time):
    """Position at a time of the grid, or None: on a sample, or between two at most a second apart."""
    for at, point in rows:
        if abs(at - time) <= 1e-6:
            return point
    for (before, one), (after, two) in itertools.pairwise(rows):
        if before < time < after and after - before <= 1 + 1e-6:
            part = (time - before) / (after - before)
            return [a + part * (b - a) for a, b in zip(one, two, strict=True)]
    return None


def label(times, points, up):
    """Everything that is known of one track, by the definitions of docs/kinematics.md."""
    known = [
        (time, point)
        for time, point in zip(times, points, strict=True)
        if point is not None and all(value is not None and math.isfinite(value) for value in point)
    ]
    rows = []
    for time, point in sorted(known, key=lambda row: row[0]):
        if not rows or time - rows[-1][0] > 1e-6:
            rows.append((time, point))
    best, run = [], []
    for index in range(41):
        point = place(rows, 0.5 * index) if index < 40 else None
        if point is not None:
            run.append((0.5 * index, point))
            continue
        best, run = (run if len(run) > len(best) else best), []
    if len(best) < 4:
        return {"status": "too_short", "n_points": len(best)}
    path = [point for _, point in best]
    steps = [minus(b, a) for a, b in itertools.pairwise(path)]
    way = sum(map(length, steps))
    found = {
        "status": "ok", "n_points": len(path), "t_start_s": best[0][0], "t_end_s": best[-1][0], "distance_m": way,
        "speed_kmh": 3.6 * way / (best[-1][0] - best[0][0]), "path": dict(best),
    }  # fmt: skip
    if max(length(minus(point, path[0])) for point in path) < 1:
        return {**found, "status": "static"}
    up = [part / length(up) for part in up]
    level = [flat(step, up) for step in steps]
    first = next((step for step in level if length(step) >= 0.25 - 1e-9), None)
    hours = []
    for step in level:
        if length(step) < 0.25 - 1e-9:
            hours.append(None)
            continue
        turn = -math.degrees(math.atan2(dot(up, cross(first, step)), dot(first, step))) % 360
        hours.append(int((turn + 15) // 30) % 12 or 12)
    end = {"end_clock": hours[-1]} if hours[-1] else {}
    return {**found, "step_clocks": hours, **end}


def stretches(label, hour):
    """Every stretch of seconds with an hour."""
    times, found = sorted(label["path"]), []
    for index, have in enumerate(label["step_clocks"]):
        if have == hour and index and label["step_clocks"][index - 1] == hour:
            found[-1][1] = times[index + 1]
        elif have == hour:
            found.append([times[index], times[index + 1]])
    return found


def answers(question, labels, up):
    """Whether the value of a question follows from the labels of its objects, in their order."""
    task, value, one = question["task"], question["value"], labels[0]
    if any(found["status"] != "ok" for found in labels):
        return False
    if task == "traveled_distance":
        return abs(value - one["distance_m"]) <= 0.0051
    if task == "traveling_speed":
        return abs(value - one["speed_kmh"]) <= 0.0051
    if task == "movement_direction":
        return value == one["end_clock"]
    if task == "direction_timestamp":
        return stretches(one, question["clock"]) == [value] and value[1] - value[0] >= 1 - 1e-6
    if task in ("distance_comparison", "speed_comparison"):
        name = "distance_m" if task == "distance_comparison" else "speed_kmh"
        colours = [thing["colour"] for thing in question["objects"]]
        ranked = sorted(zip([found[name] for found in labels], colours, strict=True))
        (less, slower), (more, faster) = ranked
        clear = more >= 1.2 * less - 1e-9 and more - less >= 1 - 1e-9
        return clear and value == (faster if question["polarity"] == "more" else slower)
    if task == "direction_comparison":
        begin, end = question["window_s"]
        ways = [flat(minus(found["path"][end], found["path"][begin]), up) for found in labels]
        apart = math.degrees(math.acos(max(-1.0, min(1.0, dot(*ways) / length(ways[0]) / length(ways[1])))))
        return min(map(length, ways)) >= 0.5 and (apart <= 30 if value == "same" else apart >= 60)
    raise ValueError(task)


def shares(questions):
    """Share of every answer and side that a blind guesser could lean on; each has to be one half."""
    found = {}
    for task in ("distance_comparison", "speed_comparison", "direction_comparison"):
        part = [question for question in questions if question["task"] == task]
        sides = {
            "red is named first": lambda question: (
                question["question"].lower().find("red") < question["question"].lower().find("blue")
            ),
            "more or same is asked": lambda question: question["polarity"] in ("more", "same"),
        }
        if task == "direction_comparison":
            sides["same"] = lambda question: question["value"] == "same"
            sides["yes"] = lambda question: question["value"] == question["polarity"]
        else:
            sides["red"] = lambda question: question["value"] == "red"
        for name, side in sides.items():
            found[f"{task}: {name}"] = sum(map(side, part)) / len(part)
    return found


def differs(mine, theirs):
    """Names of what two labels disagree about."""
    names = [name for name in mine if name != "path"]
    return [
        name
        for name in names
        if (
            abs(mine[name] - theirs[name]) > 1e-6
            if isinstance(mine[name], float)
            else mine[name] != theirs.get(name)
        )
    ]


def main(folder, questions):
    tracks = [json.loads(line) for line in (Path(folder) / "tracks.jsonl").read_text().splitlines()]
    theirs = [json.loads(line) for line in (Path(folder) / "labels.jsonl").read_text().splitlines()]
    mine, wrong = {}, 0
    for track, other in zip(tracks, theirs, strict=True):
        up = track.get("up", [0, 0, 1])
        found = mine[track["clip_id"], track["track_id"]] = label(
            track["timestamps_s"], track["xyz_world"], up
        )
        wrong += bool(differs(found, other))
    print(
        f"{len(tracks)} tracks, {wrong} labels differ; {dict(Counter(found['status'] for found in mine.values()))}"
    )
    asked = [json.loads(line) for line in Path(questions).read_text().splitlines()]
    asked = [question for question in asked if question["task"] not in ("travel_time", "speed_ratio")]
    labels = [
        [mine[question["clip_id"], thing["track_id"]] for thing in question["objects"]] for question in asked
    ]
    bad = sum(not answers(question, found, [0, 0, 1]) for question, found in zip(asked, labels, strict=True))
    print(f"{len(asked)} questions, {bad} answers differ")
    for split in sorted({question["split"] for question in asked}):
        part = [question for question in asked if question["split"] == split]
        for name, share in shares(part).items():
            print(f"{split}: {name}: {100 * share:.1f} %")


if __name__ == "__main__":
    main(*sys.argv[1:])

"""One page about a folder of labels: what is in it, what can be asked, what was rejected, and clips to look at."""

from __future__ import annotations

import base64
import dataclasses
import functools
import io
import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from saccade.errors import ConfigError, DataError
from saccade.files import read_lines, write_text
from saccade.kinematics.birdseye import birdseye_svg
from saccade.kinematics.candidates import candidates_of, clips_of, open_clip
from saccade.kinematics.draw import pictures_root
from saccade.kinematics.kinds import KINDS, task_names
from saccade.kinematics.lift.stages import REASONS
from saccade.kinematics.overlay import frames_of
from saccade.kinematics.records import Rejected, Track, read_tracks
from saccade.kinematics.scene import Scene, image_times, motion_at, open_scene, paint
from saccade.kinematics.settings import DEFAULT, Settings
from saccade.page import Markup, document, plain, table, tiles
from saccade.page.bars import count_bars
from saccade.page.charts import Series, line_chart
from saccade.shown import html

MOST_CLIPS = 200
FRAMES = 5
"""Shown of a clip."""
MOST_OBJECTS = 12
"""Rows of a clip's table."""
MOST_REASONS = 25
MOST_REJECTED = 100
"""Rejections listed one by one."""


def _shown(value: Any) -> str:
    """A value as people read it: metres and seconds with one digit, counts with commas."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else plain(value)


listing = functools.partial(table, show=_shown)


@dataclass
class Facts:
    """What a folder holds."""

    clips: Counter[str] = field(default_factory=Counter)
    """By source."""
    tracks: Counter[str] = field(default_factory=Counter)
    verdicts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    """By source: objects by whether they may be asked about."""
    values: dict[tuple[str, str], list[Any]] = field(default_factory=lambda: defaultdict(list))
    """By task and source: the answers of all that could be asked."""
    usable: dict[str, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """By source: clips with the number of their objects that may be asked about."""


def write_report(
    labels: Path | str,
    out: Path | str,
    *,
    clips: int = 12,
    size: int = 320,
    root: Path | str | None = None,
    seed: int = 0,
    settings: Settings = DEFAULT,
) -> dict[str, int]:
    """Write the page.

    Args:
        labels: Folder or file of tracks; a rejected.jsonl beside them is shown too.
        out: The page.
        clips: At most so many are shown, drawn evenly from the sources, those with something to ask about first.
        size: Width of their frames, pixels; a page of 12 clips takes about 1 MB at 320.
        root: Folder that paths of pictures are relative to; see `draw.pictures_root`.
        seed: Of the choice.
        settings: Definitions.

    Returns:
        How many clips and tracks there are, and how many clips are shown and rows rejected.

    Raises:
        ConfigError: Numbers out of range.
        DataError: No tracks, or a file that is wrong.
    """
    if not 0 <= clips <= MOST_CLIPS or not 64 <= size <= 1280:
        raise ConfigError(
            f"clips is {clips} and size {size}; expected at most {MOST_CLIPS} clips and 64 to 1280 pixels"
        )
    labels = Path(labels)
    rejected = read_rejected((labels if labels.is_dir() else labels.parent) / "rejected.jsonl")
    facts = _gather(labels, rejected, seed, settings)
    if not facts.tracks:
        raise DataError(f"{labels}: holds no track that can be read; expected labels to look at")
    chosen = _choose(facts, clips, seed)
    shown: dict[str, list[Track]] = {name: [] for name in chosen}
    for track in read_tracks(labels, []):
        if track.clip_id in shown:
            shown[track.clip_id].append(track)
    cards = [_card(tracks, size, root, labels, settings) for tracks in shown.values()]
    counts = {"clips": sum(facts.clips.values()), "tracks": sum(facts.tracks.values())}
    counts |= {"rejected": len(rejected), "shown": len(cards)}
    ok = sum(counter["ok"] for counter in facts.verdicts.values())
    head = (
        f'<header><div class="eyebrow">Kinematic labels</div><h1>{html(labels.name or str(labels))}</h1>'
        f"<p>{counts['tracks']:,} objects in {counts['clips']:,} clips from "
        f"{html(', '.join(sorted(facts.clips)))}; "
        f"settings <code>{settings.config_hash}</code>.</p></header>"
    )
    numbers = {"Clips": counts["clips"], "Objects": counts["tracks"], "May be asked about": ok}
    numbers |= {"Could be asked": sum(map(len, facts.values.values())), "Rejected": len(rejected)}
    body = [
        head,
        tiles(numbers, _shown),
        _tasks(facts),
        _objects(facts),
        _rejections(rejected, counts["tracks"]),
    ]
    body.append(
        f"<section><h2>Clips</h2><p>{len(cards)} of {counts['clips']:,}. Colours are the same in frames, map, "
        "curves and table. The dots of a path are seconds; the camera is grey. Speeds are over "
        "half a second to either side.</p>"
        f"{''.join(cards)}</section>"
    )
    write_text(out, document("Kinematic labels", body, "Written by Saccade."))
    return counts


def read_rejected(path: Path) -> list[Rejected]:
    """Read the dead-letter table; none where there is no such file.

    Raises:
        DataError: A line that is no row of it.
    """
    if not path.is_file():
        return []
    try:
        return [row for _, row in read_lines(path, Rejected)]
    except DataError as error:
        raise DataError(f"{error}; expected a rejection with clip_id, record and reason") from None


def reason_kind(row: Rejected) -> str:
    """What rejections of one kind have in common: the rule, or their reason without names and numbers."""
    if row.record in REASONS:
        return f"{row.record.replace('_', ' ')}: {REASONS[row.record]}"
    text = row.reason
    for name in sorted({row.clip_id, row.record}, key=len, reverse=True):
        text = text.replace(name, "…") if len(name) > 2 else text
    text = re.sub(r"\S*[/\\]\S*", "…", text)
    text = re.sub(r"[-+]?\d[\d.,:]*(?:e[-+]?\d+)?", "#", text)
    return text if len(text) <= 160 else text[:159] + "…"


def _gather(labels: Path, rejected: list[Rejected], seed: int, settings: Settings) -> Facts:
    """Label everything once."""
    facts = Facts()
    # What a page of statistics does not need is the better part of a track.
    spare: dict[str, Any] = {"T_world_cam": None, "yaw": None, "scale_info": None, "image_paths": None}
    tracks = (dataclasses.replace(track, **spare) for track in read_tracks(labels, rejected))
    random = np.random.default_rng(seed)
    for group in clips_of(tracks):
        source = group[0].source
        facts.clips[source] += 1
        facts.tracks[source] += len(group)
        clip = open_clip(group, facts.verdicts[source], settings)
        facts.usable[source].append((len(clip.tracks), clip.clip_id))
        for candidate in candidates_of(clip, random, settings):
            # The value of the others depends on what they will be asked with.
            if candidate.value is not None:
                facts.values[candidate.task, source].append(candidate.value)
    return facts


def _choose(facts: Facts, count: int, seed: int) -> list[str]:
    """Choose clips: from each source in turn, those with something to ask about first."""
    random = np.random.default_rng(seed)
    queues = []
    for source in sorted(facts.usable):
        clips = [facts.usable[source][index] for index in random.permutation(len(facts.usable[source]))]
        queues.append([name for _, name in sorted(clips, key=lambda item: item[0] == 0)])
    found: list[str] = []
    while len(found) < count and any(queues):
        for queue in queues:
            if queue and len(found) < count:
                found.append(queue.pop(0))
    return found


def _tasks(facts: Facts) -> str:
    """What could be asked, by task and source, and how the answers are spread."""
    rows = []
    for task in task_names():
        for source in sorted(facts.clips):
            values = facts.values.get((task, source), [])
            if not values:
                continue
            row: dict[str, Any] = {
                "task": task.replace("_", " "),
                "source": source,
                "could be asked": len(values),
            }
            if answers := KINDS[task].summary(values):
                row["answers"] = answers
            rows.append(row)
    if not rows:
        return "<section><h2>What can be asked</h2><p>Nothing: see below what became of the objects.</p></section>"
    charts = []
    for task in task_names():
        values = [value for (name, _), found in facts.values.items() if name == task for value in found]
        if values and (chart := KINDS[task].histogram(values)):
            drawn = count_bars(chart.labels, chart.counts, chart.name, chart.unit)
            charts.append(f"<figure><figcaption>{chart.title}</figcaption>{drawn}</figure>")
    return (
        "<section><h2>What can be asked</h2><p>Every object, hour and pair whose answer is beyond doubt, before "
        "questions are balanced.</p>"
        f'{listing(rows, ["answers"])}<div class="charts">{"".join(charts)}</div></section>'
    )


def _objects(facts: Facts) -> str:
    """What became of every object."""
    reasons = {reason for counter in facts.verdicts.values() for reason in counter}
    reasons = sorted(reasons, key=lambda reason: (reason != "ok", reason))
    rows = []
    for source, counter in sorted(facts.verdicts.items()):
        total = sum(counter.values())
        row = {"source": source, "clips": facts.clips[source], "objects": total}
        row |= {reason.replace("_", " "): counter[reason] for reason in reasons}
        rows.append({**row, "may be asked about": f"{100 * counter['ok'] / total:.1f} %"})
    return (
        f"<section><h2>Objects</h2><p>Each counts under the first rule it fails.</p>{listing(rows)}</section>"
    )


def _rejections(rejected: Sequence[Rejected], tracks: int) -> str:
    """What could not be used, by kind of reason, and one by one."""
    if not rejected:
        return "<section><h2>Rejected</h2><p>Nothing was rejected.</p></section>"
    kinds = Counter(reason_kind(row) for row in rejected)
    clips = len({row.clip_id for row in rejected})
    rows = [{"reason": kind, "times": count} for kind, count in kinds.most_common(MOST_REASONS)]
    if len(kinds) > MOST_REASONS:
        rest = sum(kinds.values()) - sum(row["times"] for row in rows)
        rows.append({"reason": f"{len(kinds) - MOST_REASONS} other reasons", "times": rest})
    each = [
        {"clip": row.clip_id, "record": row.record, "reason": row.reason[:400]}
        for row in rejected[:MOST_REJECTED]
    ]
    first = (
        f"the first {MOST_REJECTED} of {len(rejected):,}"
        if len(rejected) > MOST_REJECTED
        else f"all {len(rejected):,}"
    )
    return (
        f"<section><h2>Rejected</h2><p><b>{len(rejected):,}</b> rejections in {clips:,} clips, beside {tracks:,} "
        f"objects that have labels.</p>{listing(rows, ['reason'])}<details><summary>Show {first}</summary>"
        f"{listing(each, ['reason'])}</details></section>"
    )


def _card(tracks: list[Track], size: int, root: Path | str | None, labels: Path, settings: Settings) -> str:
    """One clip: frames, map, speeds, objects."""
    scene = open_scene(tracks, settings)
    first = tracks[0]
    speeds = []
    for name in scene.colours:
        label = scene.labels[name]
        if label.distance_m is not None:
            y = [motion_at(label, float(time))[1] or 0.0 for time in label.times]
            speeds.append(Series(name, label.times.tolist(), y, colour=scene.colours[name]))
    chart = (
        line_chart(speeds, "seconds", "km/h", from_zero=True, legend=False)
        if speeds
        else "<p>No object has a label.</p>"
    )
    above = birdseye_svg(tracks, scene.labels, scene.colours)
    facts = f"{first.source} · {first.split} · {first.label_origin} · {len(tracks)} objects"
    return (
        f'<div class="card"><h3>{html(first.clip_id)}</h3><p class="sub">{html(facts)}</p>'
        f'{_strip(scene, size, root, labels)}<div class="pair"><div>{above}</div><div>{chart}</div></div>'
        f"{_table(scene)}</div>"
    )


def _strip(scene: Scene, size: int, root: Path | str | None, labels: Path) -> str:
    """A few frames with everything drawn on them; or why there are none."""
    times = image_times(max(scene.tracks, key=lambda track: len(track.timestamps_s)))
    wanted = np.linspace(float(times[0]), float(times[-1]), FRAMES)
    parts = []
    try:
        found = pictures_root(scene.tracks, labels, root)
        for time, image in frames_of(scene.tracks, root=found, times_s=wanted.tolist())[1]:
            buffer = io.BytesIO()
            paint(image, scene, time, size=size).save(buffer, "JPEG", quality=84, subsampling=0)
            data = base64.b64encode(buffer.getvalue()).decode()
            alt = f"frame at {time:.1f} s"
            parts.append(
                f'<div><img alt="{alt}" src="data:image/jpeg;base64,{data}"><small>{time:.1f} s</small></div>'
            )
    except DataError as error:
        return f"<p>No frames: {html(str(error))}</p>"
    return f'<div class="strip">{"".join(parts)}</div>'


def _table(scene: Scene) -> str:
    """The objects of a clip, those that may be asked about first."""
    rows = []
    order = sorted(scene.tracks, key=lambda track: track.track_id not in scene.colours)
    for track in order[:MOST_OBJECTS]:
        label = scene.labels[track.track_id]
        colour = scene.colours.get(track.track_id, "transparent")
        dot = f'<span class="dot" style="background:{colour}"></span>'
        name = dot + html(f"{track.category} {track.track_id}")
        rows.append({
            "object": Markup(name), "metres": label.distance_m, "km/h": label.speed_kmh, "seconds": label.duration_s,
            "at the end": f"{label.end_clock} o'clock" if label.end_clock else "",
            "verdict": scene.verdicts[track.track_id].replace("_", " "),
        })  # fmt: skip
    more = len(scene.tracks) - len(rows)
    return listing(rows) + (f"<p>and {more} more</p>" if more > 0 else "")

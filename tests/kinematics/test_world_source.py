"""The synthetic world as a source of tracks."""

import math

import numpy as np
import pytest
from PIL import Image

from saccade.errors import ConfigError
from saccade.kinematics import label_track, read_source
from saccade.kinematics.geometry import Lens, corners, inverse, move, yaw_turn
from saccade.kinematics.sources.world import worlds


def some(tmp_path, **options):
    return list(read_source("world", tmp_path, clips=3, seconds=3.0, size=96, **options))


def test_tracks_are_the_truth_and_frames_are_what_was_rendered(tmp_path):
    tracks = some(tmp_path, seed=3)
    clips = list(worlds(3, 3, 3.0, 96))
    by_clip = {
        name: [t for t in tracks if t.clip_id == name] for name in dict.fromkeys(t.clip_id for t in tracks)
    }
    assert [len(found) for found in by_clip.values()] == [len(clip.world.objects) for clip in clips]
    for found, clip in zip(by_clip.values(), clips, strict=True):
        for index, track in enumerate(found):
            assert np.array_equal(track.points, clip.centres[:, index])
            assert track.timestamps_s == [0.5 * k for k in range(7)]
            shown = np.asarray(Image.open(track.image_paths[4]))
            assert np.array_equal(shown, clip.images[4])
            motion = clip.world.objects[index].motion
            label = label_track(track.timestamps_s, track.points)
            # Chords are never longer than the path, and at two a second hardly shorter.
            assert label.distance_m <= motion.travelled_m(0, 3) + 1e-9
            assert label.distance_m >= 0.85 * motion.travelled_m(0, 3) - 0.5


def test_projected_centres_lie_in_the_boxes_and_boxes_in_the_frame(tmp_path):
    inside = total = 0
    for track in some(tmp_path, need_images=False):
        assert track.image_paths is None
        camera = track.camera
        lens = Lens(np.array(camera["K"]), camera["width"], camera["height"])
        for k, box in enumerate(track.boxes_2d):
            if box is None:
                continue
            assert 0 <= box[0] < box[2] <= 96
            assert 0 <= box[1] < box[3] <= 72
            to_camera = inverse(np.array(track.T_world_cam[k]))
            outline = corners(track.points[k], track.size_lwh, yaw_turn(track.yaw[k]))
            full = lens.box(move(to_camera, outline))
            # What is seen is never more than the cuboid around it; half a pixel is the rounding of masks.
            assert full is not None
            assert (np.array(box[:2]) >= np.array(full[:2]) - 0.6).all()
            assert (np.array(box[2:]) <= np.array(full[2:]) + 0.6).all()
            (x, y), _ = lens.project(move(to_camera, track.points[k]))
            inside += box[0] <= x <= box[2] and box[1] <= y <= box[3]
            total += 1
    assert total > 20
    assert inside > 0.7 * total


def test_equal_seeds_equal_tracks(tmp_path):
    one, two, other = (some(tmp_path, seed=seed, need_images=False) for seed in (1, 1, 2))
    assert [t.xyz_world for t in one] == [t.xyz_world for t in two]
    assert [t.xyz_world for t in one] != [t.xyz_world for t in other]
    assert all(-math.pi <= angle <= math.pi for t in one for angle in t.yaw)


@pytest.mark.parametrize(
    ("options", "words"),
    [({"clips": 0}, "clips is 0"), ({"size": 7}, "size is 7"), ({"seconds": 1.0}, "seconds is 1.0"),
     ({"cameras": ["fly"]}, "fly"), ({"seed": -1}, "seed -1")],
)  # fmt: skip
def test_numbers_out_of_range(tmp_path, options, words):
    with pytest.raises(ConfigError, match=words):
        list(read_source("world", tmp_path, **options))

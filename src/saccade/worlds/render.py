"""Ray-cast pictures of boxes, ellipsoids, cylinders and cones on a textured ground, with exact masks and depth.

One ray a pixel decides what is seen there (the masks and the depth are those of pixel centres); where neighbours
differ, four rays make the colour, so that outlines are anti-aliased. Textures are solid noise in the coordinates of
the thing itself, summed over octaves that fade out before their period falls below three pixels, so that nothing
flickers when things move. Light is one sun with hard shadows and an even sky.

Frames: world metres, z up; camera x right, y down, z forward; pixel centres at whole numbers.

The kernel is compiled by numba when first called (some seconds, once) and runs on one core without Python's lock, so
threads render different frames side by side.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np

from saccade.kernels import Piece, compiled

BOX, ELLIPSOID, CYLINDER, CONE = range(4)
SKY, GROUND = -2, -1
"""What a pixel without a thing shows, in the map of things."""
ROW = 24
"""Numbers that describe a thing: shape, centre 3, cosine and sine of yaw, half sizes 3, two colours 6, texture size,
contrast, seed, radius; the rest is spare."""


def _lattice(x, y, z, seed):
    """Hash a lattice point to [-1, 1]."""
    h = np.uint32(x * 374761393) ^ np.uint32(y * 668265263) ^ np.uint32(z * 2147483647)
    h = (h ^ np.uint32(seed * 362437)) * np.uint32(1274126177)
    h = (h ^ (h >> np.uint32(15))) * np.uint32(2246822519)
    h = h ^ (h >> np.uint32(13))
    return np.float64(h & np.uint32(0xFFFF)) / 32767.5 - 1.0


def _noise(x, y, z, seed):
    """Smooth noise of period about 1, between -1 and 1."""
    i, j, k = np.floor(x), np.floor(y), np.floor(z)
    u, v, w = x - i, y - j, z - k
    u, v, w = u * u * (3 - 2 * u), v * v * (3 - 2 * v), w * w * (3 - 2 * w)
    a, b, c = np.int64(i), np.int64(j), np.int64(k)
    low = (_lattice(a, b, c, seed) * (1 - u) + _lattice(a + 1, b, c, seed) * u) * (1 - v) + (
        _lattice(a, b + 1, c, seed) * (1 - u) + _lattice(a + 1, b + 1, c, seed) * u
    ) * v
    high = (_lattice(a, b, c + 1, seed) * (1 - u) + _lattice(a + 1, b, c + 1, seed) * u) * (1 - v) + (
        _lattice(a, b + 1, c + 1, seed) * (1 - u) + _lattice(a + 1, b + 1, c + 1, seed) * u
    ) * v
    return low * (1 - w) + high * w


def _texture(x, y, z, size, seed, footprint):
    """Sum octaves of noise whose periods are at least three pixels; between about -1 and 1."""
    total, weight, period = 0.0, 1.0, size
    for octave in range(4):
        fade = (period / footprint - 3.0) / 3.0
        if fade <= 0:
            break
        total += weight * min(fade, 1.0) * _noise(x / period, y / period, z / period, seed + 17 * octave)
        weight *= 0.75
        period *= 0.37
    return max(-1.0, min(1.0, 1.4 * total))


def _hit(row, ox, oy, oz, dx, dy, dz):
    """Distance along a ray to the front of a thing, or -1; also the point in unit coordinates."""
    px, py, pz = ox - row[1], oy - row[2], oz - row[3]
    c, s = row[4], row[5]
    ax, ay, az = (c * px + s * py) / row[6], (c * py - s * px) / row[7], pz / row[8]
    bx, by, bz = (c * dx + s * dy) / row[6], (c * dy - s * dx) / row[7], dz / row[8]
    shape = int(row[0])
    best = np.inf
    if shape == BOX:
        near, far = -np.inf, np.inf
        for p, d in ((ax, bx), (ay, by), (az, bz)):
            if abs(d) < 1e-12:
                if abs(p) > 1:
                    return -1.0, 0.0, 0.0, 0.0
            else:
                t0, t1 = (-1 - p) / d, (1 - p) / d
                near, far = max(near, min(t0, t1)), min(far, max(t0, t1))
        best = near if near <= far and near > 0 else np.inf
    elif shape == ELLIPSOID:
        q = bx * bx + by * by + bz * bz
        h = ax * bx + ay * by + az * bz
        root = h * h - q * (ax * ax + ay * ay + az * az - 1)
        if root >= 0:
            t = (-h - np.sqrt(root)) / q
            best = t if t > 0 else np.inf
    else:
        # A cylinder keeps its radius; a cone's falls from 1 at z = -1 to 0 at z = 1.
        cone = shape == CONE
        k = 0.25 if cone else 0.0
        ez = az - 1 if cone else az
        q = bx * bx + by * by - k * bz * bz
        h = ax * bx + ay * by - k * ez * bz
        r = ax * ax + ay * ay - k * ez * ez - (0.0 if cone else 1.0)
        root = h * h - q * r
        if root >= 0 and abs(q) > 1e-12:
            root = np.sqrt(root)
            for t in ((-h - root) / q, (-h + root) / q):
                z = az + t * bz
                if 0 < t < best and -1 <= z <= 1:
                    best = t
        if abs(bz) > 1e-12:
            for lid in (-1.0, 1.0):
                if cone and lid > 0:
                    continue
                t = (lid - az) / bz
                x, y = ax + t * bx, ay + t * by
                if 0 < t < best and x * x + y * y <= 1:
                    best = t
    if best == np.inf:
        return -1.0, 0.0, 0.0, 0.0
    return best, ax + best * bx, ay + best * by, az + best * bz


def _normal(row, x, y, z):
    """Outward unit normal in the world at a point of the unit shape."""
    shape = int(row[0])
    nx, ny, nz = x, y, z
    if shape == BOX:
        if abs(x) >= abs(y) and abs(x) >= abs(z):
            ny, nz = 0.0, 0.0
        elif abs(y) >= abs(z):
            nx, nz = 0.0, 0.0
        else:
            nx, ny = 0.0, 0.0
    elif shape != ELLIPSOID:
        if (z > 1 - 1e-6 and shape == CYLINDER) or z < -1 + 1e-6:
            nx, ny = 0.0, 0.0
        else:
            nz = 0.5 * np.sqrt(x * x + y * y) if shape == CONE else 0.0
    nx, ny, nz = nx / row[6], ny / row[7], nz / row[8]
    nx, ny = row[4] * nx - row[5] * ny, row[5] * nx + row[4] * ny
    length = np.sqrt(nx * nx + ny * ny + nz * nz) + 1e-12
    return nx / length, ny / length, nz / length


def _misses(row, ox, oy, oz, dx, dy, dz, square):
    """Whether a ray passes outside the sphere around a thing; `square` is its direction's squared length."""
    px, py, pz = row[1] - ox, row[2] - oy, row[3] - oz
    along = px * dx + py * dy + pz * dz
    if along < 0 and px * px + py * py + pz * pz > row[18] * row[18]:
        return True
    return (px * px + py * py + pz * pz - row[18] * row[18]) * square > along * along


def _shaded(things, light, ox, oy, oz):
    """Whether something stands between a point and the sun."""
    for i in range(len(things)):
        row = things[i]
        if _misses(row, ox, oy, oz, light[0], light[1], light[2], 1.0):
            continue
        if _hit(row, ox, oy, oz, light[0], light[1], light[2])[0] > 0:
            return True
    return False


def _cast(things, eye, dx, dy, dz, pixel, light, ground, colour):
    """Follow one ray whose length 1 is a metre along the optical axis; returns (thing, depth)."""
    square = dx * dx + dy * dy + dz * dz
    found, depth, x, y, z = SKY, np.inf, 0.0, 0.0, 0.0
    if dz < -1e-9:
        found, depth = GROUND, -eye[2] / dz
    for i in range(len(things)):
        row = things[i]
        if _misses(row, eye[0], eye[1], eye[2], dx, dy, dz, square):
            continue
        t, a, b, c = _hit(row, eye[0], eye[1], eye[2], dx, dy, dz)
        if 0 < t < depth:
            found, depth, x, y, z = i, t, a, b, c
    length = np.sqrt(square)
    if found == SKY:
        up = max(0.0, dz / length)
        for channel in range(3):
            colour[channel] = light[4] + (light[5 + channel] - light[4]) * min(1.0, 2.5 * up)
        return found, depth
    hx, hy, hz = eye[0] + depth * dx, eye[1] + depth * dy, eye[2] + depth * dz
    if found == GROUND:
        nx, ny, nz = 0.0, 0.0, 1.0
        # What a pixel covers, stretched along the view where the ground is seen at a flat angle.
        slope = max(-dz / length, 1e-3)
        footprint = pixel * depth * min(1.0 / slope, 8.0)
        value = _texture(hx, hy, 0.37, ground[6], int(ground[8]), footprint) * ground[7]
        first, second = ground[0:3], ground[3:6]
    else:
        row = things[found]
        nx, ny, nz = _normal(row, x, y, z)
        slope = max(abs(nx * dx + ny * dy + nz * dz) / length, 1e-3)
        footprint = pixel * depth * min(1.0 / slope, 8.0)
        lx, ly, lz = x * row[6], y * row[7], z * row[8]
        value = _texture(lx, ly, lz + 0.37, row[15], int(row[17]), footprint) * row[16]
        first, second = row[9:12], row[12:15]
    sun = nx * light[0] + ny * light[1] + nz * light[2]
    if sun > 0 and _shaded(things, light, hx + 1e-4 * nx, hy + 1e-4 * ny, hz + 1e-4 * nz):
        sun = 0.0
    bright = (1 - light[3]) * (0.75 + 0.25 * nz) + light[3] * max(sun, 0.0)
    # Far things pale a little, as in air.
    haze = 1.0 - np.exp(-depth / 150.0)
    for channel in range(3):
        share = 0.5 + 0.5 * value
        tone = (first[channel] * share + second[channel] * (1 - share)) * bright
        colour[channel] = tone + (light[4] - tone) * haze
    return found, depth


def _draw(things, eye, world_from_camera, intrinsics, light, ground, image, seen, depth):
    """Draw everything; see `kernel`."""
    fx, fy, cx, cy = intrinsics
    turn = world_from_camera
    pixel = 1.0 / fx
    height, width = seen.shape
    colour, total = np.empty(3), np.empty(3)
    for v in range(height):
        for u in range(width):
            a, b = (u - cx) / fx, (v - cy) / fy
            dx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2]
            dy = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2]
            dz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2]
            found, far = _cast(things, eye, dx, dy, dz, pixel, light, ground, colour)
            seen[v, u], depth[v, u] = found, far
            for channel in range(3):
                image[v, u, channel] = int(255 * max(0.0, min(1.0, colour[channel])) + 0.5)
    for v in range(height):
        for u in range(width):
            here = seen[v, u]
            edge = (
                (u > 0 and seen[v, u - 1] != here)
                or (u + 1 < width and seen[v, u + 1] != here)
                or (v > 0 and seen[v - 1, u] != here)
                or (v + 1 < height and seen[v + 1, u] != here)
            )
            if not edge:
                continue
            total[:] = 0.0
            for part in range(4):
                a = (u - 0.25 + 0.5 * (part % 2) - cx) / fx
                b = (v - 0.25 + 0.5 * (part // 2) - cy) / fy
                dx = turn[0, 0] * a + turn[0, 1] * b + turn[0, 2]
                dy = turn[1, 0] * a + turn[1, 1] * b + turn[1, 2]
                dz = turn[2, 0] * a + turn[2, 1] * b + turn[2, 2]
                _cast(things, eye, dx, dy, dz, pixel, light, ground, colour)
                total += colour
            for channel in range(3):
                image[v, u, channel] = int(255 * max(0.0, min(1.0, total[channel] / 4)) + 0.5)


INLINE = {"inline": "always", "fastmath": {"nsz", "arcp", "contract", "afn"}, "error_model": "numpy"}
PLAIN = {"error_model": "numpy", "nogil": True}
PIECES: tuple[Piece, ...] = (
    (_lattice, INLINE),
    (_noise, INLINE),
    (_texture, PLAIN),
    (_hit, INLINE),
    (_normal, INLINE),
    (_misses, INLINE),
    (_shaded, PLAIN),
    (_cast, PLAIN),
)
"""What `_draw` calls, and how it is compiled."""


@functools.cache
def kernel() -> Callable[..., None]:
    """Compile `draw(things, eye, world_from_camera, intrinsics, light, ground, image, seen, depth)`.

    Arguments of the compiled function:
        things: (n, ROW) float64.
        eye: (3,) position of the camera.
        world_from_camera: (3, 3) rotation.
        intrinsics: (4,) fx, fy, cx, cy in pixels.
        light: (8,) direction to the sun 3, its share of the light, sky colours at the horizon 1 and above 3.
        ground: (9,) two colours 6, texture size in metres, contrast, seed.
        image: (height, width, 3) uint8, written.
        seen: (height, width) int16, written: number of the thing, `GROUND` or `SKY`.
        depth: (height, width) float32, written: metres along the optical axis; infinite for the sky.

    Raises:
        MissingExtraError: numba (extra `worlds`) is not installed.
    """
    return compiled(_draw, PIECES, extra="worlds", purpose="to draw the synthetic world", **PLAIN)

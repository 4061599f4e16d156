import pytest

from .pictures import encode, photo


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """Two classes, ten and six pictures, nothing else."""
    root = tmp_path_factory.mktemp("photos")
    for name, count, size in (("class2", 10, (60, 44)), ("class10", 6, (44, 60))):
        (root / name).mkdir()
        for number in range(count):
            (root / name / f"{number}.jpg").write_bytes(encode(photo(*size, seed=number)))
    return root

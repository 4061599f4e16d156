"""Tiny bases of every class and a small set of questions about motion with its pictures."""

import pytest
from tests.tasks.answer.questions import make_stkit
from tests.tasks.answer.tiny import make_base


@pytest.fixture(scope="session")
def bases(tmp_path_factory):
    """Folders of tiny bases by family, made when asked for."""
    home, made = tmp_path_factory.mktemp("bases"), {}

    def base(family):
        if family not in made:
            made[family] = str(make_base(family, home / family))
        return made[family]

    return base


@pytest.fixture(scope="session")
def stkit(tmp_path_factory):
    """Questions about six clips."""
    return make_stkit(tmp_path_factory.mktemp("stkit"))

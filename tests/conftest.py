"""What every test starts from: the same random numbers, so that a test passes always or never."""

import random

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def _same_random_numbers():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)

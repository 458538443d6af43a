"""The picture that most tests of the stages begin with."""

from __future__ import annotations

import pytest

from test.synthetic import Scene, make_scene, reference, standing


@pytest.fixture(scope='module')
def scene() -> Scene:
    return make_scene([(reference(), standing())])

"""A node knows the settings of the one beside it: from its start, and whenever they change."""

from __future__ import annotations

import pytest
from rclpy.parameter import Parameter

from gs_pose_ros.nodes.detector import DetectorNode
from gs_pose_ros.nodes.gs_refiner import RefinerNode
from gs_pose_ros.pose.detection.template_detector import TemplateDetector
from test.nodes.conftest import World


def limit(node: RefinerNode) -> float:
    """What `~/estimate_pose` asks of a pose."""
    detector = node.estimator().detector
    assert isinstance(detector, TemplateDetector)
    return detector.min_score


def test_without_the_other_node_there_are_defaults(world: World) -> None:
    node = world.add(RefinerNode)
    assert isinstance(node, RefinerNode)
    assert limit(node) == TemplateDetector().min_score


@pytest.mark.parametrize('detector_first', [True, False])
def test_estimate_pose_uses_the_detectors_values(world: World, detector_first: bool) -> None:
    parameters = {'detector.min_score': 0.81, 'detector.depth_proposals.templates.cells': 8}
    if detector_first:
        detector = world.add(DetectorNode, parameters=parameters)
    node = world.add(RefinerNode)
    assert isinstance(node, RefinerNode)
    if not detector_first:
        detector = world.add(DetectorNode, parameters=parameters)
    world.until(lambda: limit(node) == 0.81, 'the value at the start')
    found = node.estimator().detector
    assert isinstance(found, TemplateDetector)
    assert found.depth_proposals.templates.cells == 8
    detector.set_parameters([Parameter('detector.min_score', value=0.7)])
    world.until(lambda: limit(node) == 0.7, 'the change')


def test_a_node_that_comes_back_is_asked_again(world: World) -> None:
    node = world.add(RefinerNode)
    assert isinstance(node, RefinerNode)
    for value in (0.81, 0.6):
        detector = world.add(DetectorNode, parameters={'detector.min_score': value})
        world.until(lambda value=value: limit(node) == value, 'the value at the start')
        world.remove(detector)

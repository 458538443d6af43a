"""Transforms between frames: the tree by known answers, the topics over real DDS."""

from __future__ import annotations

import numpy as np
import pytest
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from hypothesis import given
from hypothesis import strategies as st
from rclpy.duration import Duration
from rclpy.time import Time
from tf2_msgs.msg import TFMessage

from gs_pose_ros.clients.spinning import spinning_node
from gs_pose_ros.geometry import se3
from gs_pose_ros.recording.transform_tree import TransformTree, UnknownTransform
from gs_pose_ros.ros_compat import tf
from test.nodes.conftest import World, world  # noqa: F401

SECOND = 10**9
tangents = st.lists(st.floats(-1, 1), min_size=6, max_size=6)


@given(tangents, tangents, tangents)
def test_lookup_composes_along_the_tree(a: list, b: list, c: list) -> None:
    T_map_robot, T_robot_camera, T_map_table = se3.exp(a), se3.exp(b), se3.exp(c)
    tree = TransformTree()
    tree.set('map', 'robot', T_map_robot, SECOND)
    tree.set('robot', 'camera', T_robot_camera, static=True)
    tree.set('map', 'table', T_map_table, static=True)
    expected = se3.inverse(T_map_robot @ T_robot_camera) @ T_map_table
    np.testing.assert_allclose(tree.lookup('camera', 'table', SECOND), expected, atol=1e-9)
    back = tree.lookup('table', 'camera', SECOND)
    np.testing.assert_allclose(back @ expected, np.eye(4), atol=1e-9)
    np.testing.assert_allclose(tree.lookup('camera', 'camera', SECOND), np.eye(4), atol=1e-9)


def test_between_two_stamps_origin_and_rotation_are_interpolated() -> None:
    tree = TransformTree()
    tree.set('map', 'robot', se3.from_rotation_translation(np.eye(3), [0, 0, 0]), SECOND)
    quarter = se3.exp([0, 0, 0, 0, 0, np.pi / 2])
    quarter[:3, 3] = [4, 0, 0]
    tree.set('map', 'robot', quarter, 2 * SECOND)
    T = tree.lookup('map', 'robot', SECOND + SECOND // 4)
    np.testing.assert_allclose(T[:3, 3], [1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(se3.log(T)[3:], [0, 0, np.pi / 8], atol=1e-9)
    np.testing.assert_allclose(tree.lookup('map', 'robot', None), quarter)  # the newest
    with pytest.raises(UnknownTransform, match='not at 0.000 s'):  # of a time that nobody set
        tree.lookup('map', 'robot', 0)


def test_stamps_may_come_in_any_order_and_the_old_are_forgotten() -> None:
    tree = TransformTree(cache_ns=2 * SECOND)
    for k in (3, 1, 2, 4):
        T = np.eye(4)
        T[0, 3] = k
        tree.set('map', 'robot', T, k * SECOND)
    assert tree.lookup('map', 'robot', 3 * SECOND + SECOND // 2)[0, 3] == pytest.approx(3.5)
    with pytest.raises(UnknownTransform, match='known from 2.000 s to 4.000 s'):
        tree.lookup('map', 'robot', SECOND)


def test_what_is_unknown_has_a_reason() -> None:
    tree = TransformTree()
    tree.set('map', 'robot', np.eye(4), SECOND)
    tree.set('other', 'thing', np.eye(4), SECOND)
    for target, source, stamp, words in (
        ('map', 'ghost', SECOND, "'ghost' does not exist"),
        ('robot', 'thing', SECOND, 'not connected'),
        ('map', 'robot', 2 * SECOND, 'not at 2.000 s'),
    ):
        with pytest.raises(UnknownTransform, match=words):
            tree.lookup(target, source, stamp)
    tree.set('robot', 'map', np.eye(4), SECOND)
    with pytest.raises(UnknownTransform, match='loop'):
        tree.lookup('map', 'robot', SECOND)


def test_no_transform_is_taken_that_is_none() -> None:
    tree = TransformTree()
    for T in (np.eye(4) * 2, np.full((4, 4), np.nan), np.diag([1.0, 1, -1, 1])):
        with pytest.raises(ValueError, match='rigid'):
            tree.set('map', 'robot', T)
    with pytest.raises(ValueError, match='two frames'):
        tree.set('map', 'map', np.eye(4))


def transform(parent: str, child: str, x: float, stamp_ns: int = SECOND) -> TransformStamped:
    out = TransformStamped(child_frame_id=child)
    out.header.frame_id = parent
    out.header.stamp = TimeMsg(sec=stamp_ns // SECOND, nanosec=stamp_ns % SECOND)
    out.transform.translation.x = x
    return out


def test_broadcasters_and_listener(world: World) -> None:  # noqa: F811
    buffer = tf.Buffer(Duration(seconds=10))
    raw = world.listen(TFMessage, '/tf', 100)
    with spinning_node('tf_sender') as sender:
        static = tf.StaticTransformBroadcaster(sender)
        static.sendTransform(transform('robot', 'camera', 1.0))
        static.sendTransform(transform('camera', 'optical', 10.0))
        tf.TransformListener(buffer, world.node)  # late: must still get both
        dynamic = tf.TransformBroadcaster(sender)
        world.until(lambda: dynamic.pub_tf.get_subscription_count() >= 2, 'listeners')
        time = Time(nanoseconds=SECOND)

        def known() -> bool:
            dynamic.sendTransform([transform('map', 'robot', 100.0)])
            return buffer.can_transform('map', 'optical', time)

        world.until(known, 'the transform')
    found = buffer.lookup_transform('map', 'optical', time)
    assert found.transform.translation.x == pytest.approx(111.0)
    assert (found.header.frame_id, found.child_frame_id) == ('map', 'optical')
    assert raw[0].transforms[0].child_frame_id == 'robot'
    with pytest.raises(tf.TransformException):
        buffer.lookup_transform('map', 'optical', Time(nanoseconds=9 * SECOND))
    assert not buffer.can_transform('map', 'ghost', time)


def test_a_flood_of_broken_transforms_is_said_once_and_keeps_nothing_waiting() -> None:
    with spinning_node('flooded') as node:
        said: list[str] = []
        listener = tf.TransformListener(tf.Buffer(), node)
        assert listener.tf_sub.callback_group is not node.default_callback_group
        flood = [transform('base', f'c{k}', 1.0) for k in range(100)]
        for broken in flood[1:]:
            broken.transform.translation.x = 1e308
        logger = type('Logger', (), {'warning': lambda _, text, **__: said.append(text)})
        node.get_logger = logger  # type: ignore[method-assign]
        listener.callback(TFMessage(transforms=flood))
        (only,) = said
        assert only.startswith('99 of 100 transforms are left out: not a transform')
        assert listener.buffer.can_transform('base', 'c0', Time())
        listener.unregister()

"""The demo's data is right: truth, depth, silhouettes and names agree with the models."""

from __future__ import annotations

import numpy as np
import pytest
import trimesh

from gs_pose_ros.commands.demo_data import DATA, DemoData
from gs_pose_ros.datasets.bop import read_bop_split
from gs_pose_ros.datasets.bop_models import read_bop_models
from gs_pose_ros.evaluation.truth import read_truth
from gs_pose_ros.geometry import se3

from .conftest import NAMES


@pytest.fixture(scope='module')
def surfaces() -> dict[int, trimesh.Trimesh]:
    """The models' meshes, m."""
    out = {}
    for number in NAMES:
        mesh = trimesh.load(DATA / 'models' / f'obj_{number:06d}.ply', force='mesh')
        mesh.apply_scale(0.001)
        out[number] = mesh
    return out


def distance_to_surface(mesh: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """Distance of points [N, 3] to dense samples of the surface [N], m."""
    from scipy.spatial import cKDTree

    samples, _ = trimesh.sample.sample_surface(mesh, 40_000, seed=0)
    return np.asarray(cKDTree(samples).query(points)[0])


def test_objects_have_names(data: DemoData) -> None:
    assert data.names == NAMES


def test_every_frame_of_the_bag_has_its_truth(data: DemoData) -> None:
    truth, _ = read_truth(data.root, 'test', data.names, data.frames[0].camera)
    assert [image.stamp_ns for image in truth] == [frame.stamp_ns for frame in data.frames]
    assert len(truth) == 60
    assert all({i.object_id for i in image.instances} == set(NAMES.values()) for image in truth)


def test_depth_of_the_bag_lies_on_the_true_surfaces(
    data: DemoData, surfaces: dict[int, trimesh.Trimesh]
) -> None:
    images = read_bop_split(DATA, 'test', with_pictures=False)
    for image in images[::20]:
        frame = next(f for f in data.frames if f.stamp_ns == image.stamp_ns)
        assert frame.depth is not None
        assert np.allclose(frame.camera.matrix, image.intrinsics)
        for instance in image.instances:
            mask = instance.visible_mask()
            assert mask is not None
            seen = frame.camera.point_map(frame.depth)[mask & (frame.depth > 0)]
            points = se3.transform(se3.inverse(instance.T_cam_obj), seen)
            distance = distance_to_surface(surfaces[instance.object_id], points)
            # The sensor's noise is 0.0022 z^2 (m); half a pixel of shift would be seen at once.
            assert np.median(distance) < 0.0012
            assert (distance < 0.005).mean() > 0.97


def test_reference_pictures_fit_the_models(surfaces: dict[int, trimesh.Trimesh]) -> None:
    for image in read_bop_split(DATA, 'train')[5::14]:
        (instance,) = image.instances
        frame = image.read_frame()
        mask = instance.visible_mask()
        assert frame.depth is not None
        assert mask is not None
        seen = frame.camera.point_map(frame.depth)[mask & (frame.depth > 0)]
        points = se3.transform(se3.inverse(instance.T_cam_obj), seen)
        assert np.median(distance_to_surface(surfaces[instance.object_id], points)) < 0.0008
        # The silhouette, too: every visible vertex projects into the mask, to a pixel.
        vertices = se3.transform(instance.T_cam_obj, surfaces[instance.object_id].vertices)
        u, v = np.rint(frame.camera.project(vertices)).astype(int).T
        grown = np.pad(mask, 1)
        near = sum(
            grown[1 + dy : mask.shape[0] + 1 + dy, 1 + dx : mask.shape[1] + 1 + dx]
            for dy in (-1, 0, 1)
            for dx in (-1, 0, 1)
        )
        assert near[v, u].all()


def test_data_is_small_enough_for_the_repository() -> None:
    assert sum(p.stat().st_size for p in DATA.rglob('*') if p.is_file()) < 8_000_000


def test_models_agree_with_their_facts() -> None:
    for number, model in read_bop_models(DATA).items():
        assert model.name == NAMES[number]
        assert np.allclose(model.points.min(0), model.box[0], atol=1e-6)
        far = np.linalg.norm(model.points[:, None] - model.points[None, ::7], axis=-1).max()
        assert model.diameter_m == pytest.approx(far, rel=0.03)

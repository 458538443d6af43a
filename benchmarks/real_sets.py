"""Run the real data sets and write their figures; docs/real_sets.md says what came out.

    python benchmarks/real_sets.py desk --root DIR --out OUT
    python benchmarks/real_sets.py desk-refinement --root DIR --out OUT
    python benchmarks/real_sets.py ycbv --root DIR --renders RENDERS --out OUT
    python benchmarks/real_sets.py ycbv-refinement --root DIR --renders RENDERS --out OUT
    python benchmarks/real_sets.py fox --root DIR --out OUT [--box LOW HIGH]
    python benchmarks/real_sets.py cube-video --root DIR --db DATABASE --out OUT

RENDERS is what `mesh_views.py` made of the set's meshes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
import tyro
from cube_video import CubeVideo
from figures import write_figures
from measure_refinement import MeasureRefinement
from numpy.typing import NDArray

from gs_pose_ros.evaluation.bop import BopEvaluation
from gs_pose_ros.evaluation.provenance import provenance
from gs_pose_ros.geometry import se3
from gs_pose_ros.objects.database import ObjectDatabase, ObjectReference
from gs_pose_ros.objects.masks import EmptyMaskError, MaskMode, make_mask
from gs_pose_ros.objects.registration import RegistrationSettings, register
from gs_pose_ros.objects.sources import RegistrationView
from gs_pose_ros.objects.transforms_json import read_transforms_json
from gs_pose_ros.rendering import render

DESK_REFS, DESK_TEST = '.:0-29', '.:30-59'


@dataclass(frozen=True)
class Desk:
    """RGB-D frames of two objects on a desk: register from the first 30, find in the last 30."""

    root: Path
    out: Path
    images: int = 0
    """Use only that many of the 30 test frames; 0 is all."""

    def run(self) -> None:
        """With and without depth, with and without the true masks."""
        for depth in (True, False):
            for gt_masks in (True, False):
                name = f'real_desk_{_variant(depth, gt_masks)}'
                BopEvaluation(
                    root=self.root,
                    refs_split=DESK_REFS,
                    split=DESK_TEST,
                    images=self.images,
                    depth=depth,
                    gt_masks=gt_masks,
                    db=_desk_db(self.out, depth),
                    json=self.out / f'{name}.json',
                    report=self.out / name,
                ).run()


@dataclass(frozen=True)
class DeskRefinement:
    """Refiners against each other from starts around the true poses in the desk's test frames."""

    root: Path
    out: Path
    cases: int = 24
    slow_cases: int = 4

    def run(self) -> None:
        """The rows of `measure_refinement.py`; the light is a real one as it is."""
        MeasureRefinement(
            root=self.root,
            db=_desk_db(self.out, depth=True),
            split=DESK_TEST,
            refs_split=DESK_REFS,
            cases=self.cases,
            slow_cases=self.slow_cases,
            changed=False,
            note='The reference poses are themselves good to 2 mm and 0.5 deg only.',
            name='refinement_real_desk',
            out=self.out,
        ).run()


def _desk_db(out: Path, depth: bool) -> Path:
    return out / f'desk_db_{"rgbd" if depth else "rgb"}'


@dataclass(frozen=True)
class Ycbv:
    """Two real frames with six objects, registered from renders of their meshes."""

    root: Path
    renders: Path
    out: Path

    def run(self) -> None:
        """With depth; with and without the true masks."""
        for gt_masks in (True, False):
            name = f'real_ycbv_{_variant(True, gt_masks)}'
            BopEvaluation(
                root=_whole_ycbv(self.root, self.renders, self.out),
                gt_masks=gt_masks,
                db=self.out / 'ycbv_db',
                json=self.out / f'{name}.json',
                report=self.out / name,
            ).run()


@dataclass(frozen=True)
class YcbvRefinement:
    """Refiners against each other from starts around the true poses of the six objects."""

    root: Path
    renders: Path
    out: Path

    def run(self) -> None:
        """The rows of `measure_refinement.py` that are quick."""
        MeasureRefinement(
            root=_whole_ycbv(self.root, self.renders, self.out),
            db=self.out / 'ycbv_db',
            cases=0,
            rows='icp,lm,lm rgb,lm k=12,lm rgb k=12',
            changed=False,
            note='Six cases of two frames; the meshes of three have no texture. How good the '
            'reference poses are is not known.',
            name='refinement_real_ycbv',
            out=self.out,
        ).run()


def _whole_ycbv(root: Path, renders: Path, out: Path) -> Path:
    """References, models and test images below one folder, as an evaluation wants them."""
    whole = out / 'ycbv_samples'
    whole.mkdir(parents=True, exist_ok=True)
    for part, source in (('train', renders), ('test', root), ('models', root)):
        if not (whole / part).exists():
            (whole / part).symlink_to((source / part).resolve())
    return whole


def _variant(depth: bool, gt_masks: bool) -> str:
    return ('rgbd' if depth else 'rgb') + '_gt_masks' * gt_masks


@dataclass(frozen=True)
class Fox:
    """Register from photos with poses alone: no depth, no masks, no scale."""

    root: Path
    out: Path
    box: tuple[float, float, float, float, float, float] | None = None
    """Lowest and highest corner in the file's units; a cube about the common look-at point
    that just fits the pictures if not given."""
    metres_per_unit: float = 0.1
    shown: int = 4
    """Which of the used views is shown beside its rendering."""

    def run(self) -> None:
        """Mask by GrabCut in the box, register, and write figures and pictures."""
        views = read_transforms_json(self.root, metres_per_unit=self.metres_per_unit)
        if self.box is None:
            box = look_at_box(views)
        else:
            box = np.reshape(self.box, (2, 3)) * self.metres_per_unit
        started = time.monotonic()
        masked, refused = [], []
        for k, view in enumerate(views):
            try:
                masked.append(replace(view, mask=make_mask(view, MaskMode.GRABCUT, box)))
            except EmptyMaskError as error:
                refused.append(f'view {k}: {error}')
        mask_s = time.monotonic() - started
        (x0, y0, z0), (x1, y1, z1) = box.tolist()
        settings = RegistrationSettings(use_depth=False, box=((x0, y0, z0), (x1, y1, z1)))
        reference = register('fox', masked, settings)
        name = 'real_fox_' + ('look_at_box' if self.box is None else 'given_box')
        shares = [float(np.mean(view.mask)) for view in masked if view.mask is not None]
        figures = {
            'title': f'fox_multiview, RGB only, GrabCut masks, {name.removeprefix("real_fox_")}',
            **provenance(),
            'box_units': (box / self.metres_per_unit).round(3).tolist(),
            'n_views': len(views),
            'n_views_masked': len(masked),
            'refused': refused,
            'mask_share_of_picture': [round(share, 3) for share in shares],
            'masks_s': mask_s,
            'registration_s': reference.facts['registration_s'],
            'psnr_heldout': reference.facts['psnr_heldout_db'],
            'n_gaussians': len(reference.gaussians),
            'diameter_units': reference.diameter_m / self.metres_per_unit,
        }
        write_figures(self.out, name, figures)
        ObjectDatabase(self.out / f'{name}_db').save(reference)
        rows = [beside(reference, masked[k]) for k in (self.shown, len(masked) // 2)]
        cv2.imwrite(str(self.out / f'{name}.png'), np.vstack(rows)[..., ::-1])


def look_at_box(views: Sequence[RegistrationView]) -> NDArray[np.float64]:
    """A cube [2, 3] about the point nearest to all optical axes, four fifths of a picture wide."""
    A, b = np.zeros((3, 3)), np.zeros(3)
    for view in views:
        T_obj_cam = se3.inverse(view.T_cam_obj)
        axis = T_obj_cam[:3, 2]
        P = np.eye(3) - np.outer(axis, axis)
        A += P
        b += P @ T_obj_cam[:3, 3]
    center = np.linalg.solve(A, b)
    z = [(view.T_cam_obj[:3, :3] @ center + view.T_cam_obj[:3, 3])[2] for view in views]
    camera = views[0].camera
    half = 0.4 * min(camera.width / camera.fx, camera.height / camera.fy) * float(np.median(z))
    return np.stack([center - half, center + half]).astype(np.float64)


def beside(reference: ObjectReference, view: RegistrationView) -> NDArray[np.uint8]:
    """The picture, its masked part and the rendering [H, 3 W, 3] RGB."""
    T_cam_obj = torch.from_numpy(view.T_cam_obj)
    color = render(reference.gaussians, view.camera, T_cam_obj).color.detach().numpy()
    rendered = np.rint(color.clip(0, 1) * 255).astype(np.uint8)
    assert view.mask is not None
    return np.hstack([view.color, view.color * view.mask[..., None], rendered])


if __name__ == '__main__':
    commands = {
        'desk': Desk,
        'desk-refinement': DeskRefinement,
        'ycbv': Ycbv,
        'ycbv-refinement': YcbvRefinement,
        'fox': Fox,
        'cube-video': CubeVideo,
    }
    tyro.extras.subcommand_cli_from_dict(commands).run()

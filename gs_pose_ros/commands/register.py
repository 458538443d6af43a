"""`gs-pose register`: what the object_database node does on request, without any node."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from rich.console import Console
from rich.progress import Progress
from tyro.conf import Positional, arg

from gs_pose_ros.command_options import check_numbers, expanded, folder_to_write
from gs_pose_ros.objects.board import AprilTagGrid, CharucoBoard
from gs_pose_ros.objects.database import ObjectDatabase
from gs_pose_ros.objects.folder_store import checked_name
from gs_pose_ros.objects.masks import MaskMode
from gs_pose_ros.objects.registration import (
    RegistrationProgress,
    RegistrationSettings,
    register,
)
from gs_pose_ros.pose.estimator import PoseEstimator
from gs_pose_ros.recording.camera_topics import BagInput
from gs_pose_ros.recording.registration_source import Board, RegistrationSource
from gs_pose_ros.recording.source_kind import check_kind


@dataclass(frozen=True)
class Register:
    """Register an object from posed pictures and store it in a database directory."""

    object_id: Positional[str]
    """The name it gets."""
    kind: Positional[Literal['bop', 'transforms', 'bag']]
    """BOP split folder; folder with transforms.json, or such a file; bag of ROS 2 or ROS 1."""
    path: Positional[Path]
    """Where the pictures are. BOP: numbers of images may follow, as train:0-99."""
    db: Path = Path('~/.local/share/gs_pose_ros/objects')
    """The database directory; an object of that name in it is replaced."""
    bop_object: int = 1
    """Which object of the BOP split."""
    box: tuple[float, float, float, float, float, float] | None = None
    """Lowest and highest corner of the object, metres; for masks where none are given."""
    masks: Literal['auto', 'given', 'depth_box', 'grabcut'] = 'auto'
    """Where the masks come from."""
    depth: bool = True
    """Use depth where there is some."""
    object_frame: str = ''
    """Bag: TF frame of the object."""
    board: Literal['none', 'charuco', 'apriltag'] = 'none'
    """Bag: the board under the object."""
    board_fields: tuple[int, int] = (7, 5)
    """Columns and rows: squares of a ChArUco board, tags of an AprilTag grid."""
    board_metres: tuple[float, float] = (0.03, 0.022)
    """ChArUco: side of a square, side of a marker. AprilTag: side of a tag, gap between tags."""
    board_dictionary: str = ''
    """OpenCV's name; DICT_5X5_100 or DICT_APRILTAG_36h11 if not given."""
    board_legacy: bool = False
    """The ChArUco board is of calib.io or OpenCV before 4.6 and has an even number of rows."""
    metres_per_unit: float = 0.0
    """Transforms: metres that one unit of the file is, as 0.001 for millimetres; 0: 1 m."""
    max_views: int = 0
    """Use only that many pictures, evenly spread; 0 is all."""
    bag: Annotated[BagInput, arg(name='')] = BagInput()
    """Bag: what of it is taken."""
    settings: RegistrationSettings = field(default_factory=RegistrationSettings)
    """How the splat is fitted."""

    def run(self) -> None:
        """Register and store.

        Raises:
            GsPoseError: an argument makes no sense, the pictures cannot be used, or the object
                cannot be stored.

        """
        # What can be known now is: the work takes minutes.
        checked_name(self.object_id)
        check_numbers(self)
        path = expanded(self.path, 'PATH')
        check_kind(self.kind, path)
        database = ObjectDatabase(folder_to_write(self.db, '--db'))
        source = RegistrationSource(
            kind=self.kind,
            path=path,
            bop_object_id=self.bop_object,
            box=None if self.box is None else np.reshape(self.box, (2, 3)),
            mask_mode=MaskMode(self.masks),
            use_depth=self.depth,
            board=self._board(),
            object_frame=self.object_frame,
            max_views=self.max_views,
            metres_per_unit=self.metres_per_unit,
            bag=self.bag,
        )
        console = Console(stderr=True, soft_wrap=True, markup=False, highlight=False)
        found = source.views()
        settings = self.settings
        if found.box is not None:
            low, high = (tuple(map(float, corner)) for corner in found.box)
            settings = replace(settings, box=(low, high))
        for note in found.notes:
            console.print(note)
        with Progress(console=console, transient=True) as progress:
            bar = progress.add_task(self.object_id, total=1.0)

            def show(p: RegistrationProgress) -> None:
                progress.update(bar, completed=p.fraction, description=f'{p.stage}: {p.message}')

            reference = register(self.object_id, found.views, settings, show)
            database.save(reference)
            progress.update(bar, description='preparing: templates and keypoints')
            PoseEstimator().rehearse(
                database.load(self.object_id), use_depth=bool(reference.facts['with_depth'])
            )
        numbers = {k: v for k, v in reference.facts.items() if not isinstance(v, str)}
        facts = ', '.join(f'{name} {number:.4g}' for name, number in numbers.items())
        console.print(
            f'{self.object_id}: {len(reference.gaussians)} Gaussians, '
            f'diameter {reference.diameter_m:.3f} m, {facts}'
        )

    def _board(self) -> Board | None:
        sizes = (*self.board_fields, *self.board_metres)
        if self.board == 'charuco':
            dictionary = self.board_dictionary or 'DICT_5X5_100'
            return CharucoBoard(*sizes, dictionary, self.board_legacy)
        if self.board == 'apriltag':
            return AprilTagGrid(*sizes, self.board_dictionary or 'DICT_APRILTAG_36h11')
        return None

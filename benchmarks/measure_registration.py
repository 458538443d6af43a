"""How long the registration of an object takes, and how good it becomes.

`python benchmarks/measure_registration.py` or
`python benchmarks/measure_registration.py --root render_bop --objects 1,2,3`
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from figures import DEMO, RESULTS, origin, print_table, write_figures

from gs_pose_ros.datasets.bop import object_name
from gs_pose_ros.objects.bop_views import read_bop_views
from gs_pose_ros.objects.gaussian_fitting import GaussianFitting
from gs_pose_ros.objects.registration import RegistrationSettings, register
from gs_pose_ros.objects.sources import thinned

# Loads or compiles every kernel: one step with depth and mask and both stages of the fit.
WARM_UP = RegistrationSettings(fitting=GaussianFitting(iterations=3), final_iterations=2)


@dataclass(frozen=True)
class MeasureRegistration:
    """Register each object once; reading the pictures and compiling are not in the time."""

    root: Path = DEMO
    """Folder of the BOP set."""
    objects: str = '3'
    """BOP ids, separated by commas."""
    split: str = 'train'
    """The split they are registered from."""
    views: int = 0
    """Use only that many views, evenly spread; 0 is all."""
    settings: RegistrationSettings = RegistrationSettings()
    out: Path = RESULTS
    """Folder for registration.json."""

    def run(self) -> None:
        """Measure, print the table, write the file."""
        figures = origin(f'registration, {self.root.resolve().name}', asdict(self))
        rows = {}
        for number in map(int, self.objects.split(',')):
            name = object_name(number)
            views = read_bop_views(self.root / self.split, number, max_views=self.views)
            if not rows:
                register(name, thinned(views, 8), WARM_UP)
            reference = register(name, views, self.settings)
            rows[name] = {
                'views': reference.facts['views'],
                'seconds': reference.facts['registration_s'],
                'psnr_heldout_db': reference.facts['psnr_heldout_db'],
                'gaussians': len(reference.gaussians),
            }
        columns = {
            'views': '{}',
            'seconds': '{:.1f}',
            'psnr_heldout_db': '{:.2f}',
            'gaussians': '{}',
        }
        print_table(figures['title'], rows, columns)
        write_figures(self.out, 'registration', {**figures, 'objects': rows})


if __name__ == '__main__':
    tyro.cli(MeasureRegistration).run()

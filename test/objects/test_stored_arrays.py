"""npz files: what numpy wrote comes back, and any mutation of it is read or named."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given

from gs_pose_ros.errors import GsPoseError
from gs_pose_ros.objects.stored_arrays import read_arrays
from test import damage
from test.mutations import examples, mutated_bytes

ARRAYS = {
    'poses': np.arange(32.0).reshape(2, 4, 4),
    'colors': np.arange(48, dtype=np.uint8).reshape(4, 4, 3),
    'counts': np.array([3, 4], np.int64),
    'flags': np.array([True, False]),
    'extent': np.array(1.5),
    'none': np.zeros((0, 3), np.float32),
    'turned': np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def saved(compressed: bool = True) -> bytes:
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, **ARRAYS)
    return file.getvalue()


@pytest.mark.parametrize('compressed', [True, False])
def test_arrays_come_back_as_they_were(tmp_path: Path, compressed: bool) -> None:
    (tmp_path / 'a.npz').write_bytes(saved(compressed))
    loaded = read_arrays(tmp_path / 'a.npz', list(ARRAYS))
    for name, array in ARRAYS.items():
        assert loaded[name].dtype == array.dtype
        assert loaded[name].flags.writeable
        np.testing.assert_array_equal(loaded[name], array)


def _member(content: bytes, **entry: int):
    def damaged(path: Path) -> None:
        with zipfile.ZipFile(path, 'w') as out:
            info = zipfile.ZipInfo('a.npy')
            for key, value in entry.items():
                setattr(info, key, value)
            out.writestr(info, content)

    return damaged


@pytest.mark.parametrize(
    ('damaged', 'message'),
    [
        (_member(b''), 'not readable'),
        (_member(b'\x93NUMPY'), 'not readable'),
        (_member(b'\x93NUMPY\x09\x09' + bytes(200)), 'not readable'),
        (_member(b'\x93NUMPY\x02\x00\xff\xff\xff\xff' + b'[' * 5000), 'no array of numbers'),
        (_member(damage.npy_header('<f8', (2,)) + bytes(8)), 'takes 144 bytes, but it has 136'),
        (_member(damage.npy_header('<f8', (2,)) + bytes(24)), 'takes 144 bytes, but it has 152'),
        (_member(damage.npy_header('<f8', (10**14, 10**14))), 'takes'),
        # A pattern that could split the digits in many ways would take for ever.
        (_member(damage.npy_header('<f8', (int('1' * 900),))), 'no array of numbers'),
        (_member(damage.npy_header('<f8', (1,) * 70) + bytes(8)), 'not readable'),
        (_member(damage.npy_header('<M8[s]', (1,)) + bytes(8)), 'no array of numbers'),
        (_member(damage.npy_header('<f16', (1,)) + bytes(16)), 'no array of numbers'),
        (
            _member(b'x' * 500, compress_type=zipfile.ZIP_LZMA),
            'compressed in a way that is not read',
        ),
        (
            _member(b'x' * 500, compress_type=zipfile.ZIP_BZIP2),
            'compressed in a way that is not read',
        ),
        (lambda p: p.write_bytes(b'PK' + bytes(100)), 'no npz file'),
        (lambda p: p.write_bytes(b''), 'no npz file'),
        (lambda p: p.write_bytes(saved()[:-1]), 'no npz file'),
        (lambda p: p.write_bytes(saved()[20:]), 'not readable'),
        (lambda p: np.savez(p, b=np.zeros(3)), 'lacks the array a'),
    ],
)
def test_what_is_none_is_named(tmp_path: Path, damaged, message: str) -> None:
    damaged(tmp_path / 'x.npz')
    with pytest.raises(GsPoseError, match=rf'x\.npz: .*{message}'):
        read_arrays(tmp_path / 'x.npz', ['a'])


def test_a_million_members_are_not_listed(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as out:
        for k in range(2000):
            out.writestr(f'{k}.npy', b'')
    with pytest.raises(GsPoseError, match='bytes name its arrays'):
        read_arrays(tmp_path / 'x.npz', ['0'])


def test_more_than_is_asked_for_is_not_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / 'x.npz', a=np.zeros(1000), b=np.zeros(10))
    assert read_arrays(tmp_path / 'x.npz', ['b'], 2000)['b'].shape == (10,)
    with pytest.raises(GsPoseError, match=r'take 0\.008128 MB, at most 0\.002 MB'):
        read_arrays(tmp_path / 'x.npz', ['a'], 2000)


@examples(80)
@given(content=mutated_bytes(saved(True)) | mutated_bytes(saved(False)))
def test_any_mutation_is_read_or_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / 'x.npz'
    path.write_bytes(content)
    try:
        loaded = read_arrays(path, list(ARRAYS))
    except GsPoseError as error:
        reason = str(error)
    else:
        for name, array in ARRAYS.items():  # zip's own sums: nothing wrong is read
            np.testing.assert_array_equal(loaded[name], array)
        return
    assert 'x.npz' in reason

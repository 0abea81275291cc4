"""Reading .npz files, which are untrusted: nothing is unpickled, and claims are not believed."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from optc.errors import UserError

_HINT = "write it with numpy.savez(path, input_name=array)"


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file by name.

    Raises:
        UserError: it does not exist, is no .npz file of plain arrays, or unpacks to more than the memory.
    """
    if not path.is_file():
        raise UserError("the input file does not exist", where=str(path), hint="give an .npz file")
    try:
        archive = np.load(path, allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise UserError("the input file is a single array without a name", where=str(path), hint=_HINT)
        with archive:
            _check_size(archive.zip, path)
            return {name: archive[name] for name in archive.files}
    except MemoryError:
        what = "an array of the input file claims to be larger than the memory"
        raise UserError(what, where=str(path), hint=_HINT) from None
    except (ValueError, OSError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error):
        # numpy's own words are not passed on: they advise to unpickle the file.
        what = "the input file is not an .npz file of plain arrays"
        raise UserError(what, where=str(path), hint=_HINT) from None


def physical_memory() -> int:
    """Bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _check_size(archive: zipfile.ZipFile | None, path: Path) -> None:
    size = sum(entry.file_size for entry in archive.infolist()) if archive is not None else 0
    if size > physical_memory():
        what = f"the input file unpacks to {size:,} bytes, more than the memory"
        raise UserError(what, where=str(path), hint="give fewer samples, or a folder of files")

"""An index: the codes and names of many clouds in one file.

The file is a NumPy ``.npz`` without pickles:

=========== ================ ====================================================
``format``  uint8 (1,)       2
``model``   uint8 (8,)       id of the model that made the codes
``up``      uint8 (1,)       the axis that points up, 0 x, 1 y, 2 z
``sized``   uint8 (1,)       1 if the codes depend on the size of the clouds, else 0
``codes``   uint64 (n,)      little endian; the most significant bit comes first
``names``   uint8 (m,)       n names in UTF-8, each followed by a zero byte
=========== ================ ====================================================
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pccodec.errors import InputError
from pccodec.hashing.search import BITS, nearest
from pccodec.io import atomic_write

_FORMAT = 2
_AXES = "xyz"


@dataclass(frozen=True)
class Match:
    """A found cloud.

    Attributes:
        name: of the cloud.
        code: its 64 bits.
        distance: bits in which it differs from the query.
    """

    name: str
    code: int
    distance: int


@dataclass(frozen=True, eq=False)
class Index:
    """Codes that can be searched.

    Attributes:
        names: of the clouds, without zero characters.
        codes: uint64 (n,), in the same order.
        model: id of the model that made them, 8 bytes.
        up: the axis of the clouds that points up: "x", "y" or "z".
        sized: whether the codes depend on the size of the clouds.
    """

    names: Sequence[str]
    codes: np.ndarray
    model: bytes
    up: str = "z"
    sized: bool = True

    @classmethod
    def of(
        cls, names: Sequence[str], codes: Sequence[int], model: bytes, up: str = "z", sized: bool = True
    ) -> Index:
        """Index of codes given as integers."""
        return cls(names, np.array(codes, dtype=np.uint64), model, up, sized)

    def search(
        self, code: int, top: int = 10, bits: int = BITS, certainty: np.ndarray | None = None
    ) -> list[Match]:
        """The ``top`` clouds nearest to a code by its first ``bits`` bits.

        At the same distance those come first that differ in less certain bits, if the ``certainty`` of the
        code's bits is given, float32 (64,) (:meth:`HashNetwork.query`), then in the index's order.
        """
        places, found = nearest(self.codes, code, top, bits, certainty)
        return [
            Match(self.names[place], int(self.codes[place]), int(distance))
            for place, distance in zip(places, found, strict=True)
        ]

    def save(self, path: str | Path) -> None:
        """Write the file; it appears complete or not at all.

        Raises:
            InputError: it cannot be written, or a name cannot be stored.
        """
        if any("\0" in name for name in self.names):
            raise InputError("names in an index cannot hold zero characters")
        names = "".join(name + "\0" for name in self.names).encode("utf-8", "surrogateescape")
        with atomic_write(path) as file:
            np.savez(
                file,
                format=np.array([_FORMAT], dtype=np.uint8),
                model=np.frombuffer(self.model, dtype=np.uint8),
                up=np.array([_AXES.index(self.up)], dtype=np.uint8),
                sized=np.array([self.sized], dtype=np.uint8),
                codes=np.asarray(self.codes, dtype="<u8"),
                names=np.frombuffer(names, dtype=np.uint8),
            )

    @classmethod
    def load(cls, path: str | Path) -> Index:
        """Read a file that :meth:`save` wrote.

        Raises:
            InputError: there is no such file, or it is no index.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                number = file["format"]
                if number.shape == (1,) and number.dtype == np.uint8 and number[0] != _FORMAT:
                    raise InputError(
                        f"{path} is an index of format {number[0]}, not {_FORMAT}: build it with this pccodec"
                    )
                parts = {name: file[name] for name in ("format", "model", "up", "sized", "codes", "names")}
        except OSError as error:
            raise InputError(f"cannot read {path}: {error.strerror or error}") from error
        except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is not an index that pccodec wrote") from error
        return _checked(path, parts)


def _checked(path: str | Path, parts: dict[str, np.ndarray]) -> Index:
    """The index of a file's arrays.

    Raises:
        InputError: they do not fit together.
    """
    single = all(parts[key].shape == (1,) for key in ("format", "up", "sized"))
    bytewise = all(parts[key].dtype == np.uint8 and parts[key].ndim == 1 for key in parts if key != "codes")
    codes = parts["codes"]
    if bytewise and codes.ndim == 1 and codes.dtype == np.uint64:
        names = parts["names"].tobytes().decode("utf-8", "surrogateescape").split("\0")
        known = single and len(parts["model"]) == 8 and parts["up"][0] < len(_AXES) and parts["sized"][0] < 2
        if known and len(names) == len(codes) + 1:
            up = _AXES[parts["up"][0]]
            codes = codes.astype(np.uint64, copy=False)
            return Index(names[:-1], codes, parts["model"].tobytes(), up, bool(parts["sized"][0]))
    raise InputError(f"{path} is a damaged index: build it again")

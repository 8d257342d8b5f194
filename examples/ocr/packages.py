"""Files inside of installed packages: the model and the fonts. No package is imported to find them."""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path

from regiolect.errors import InvalidModelSpec
from regiolect.integrity import digest_file

_FONTS = {
    "DejaVu Sans": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSans.ttf"),
    "DejaVu Sans Mono": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSansMono.ttf"),
    "DejaVu Serif": ("matplotlib", "mpl-data/fonts/ttf/DejaVuSerif.ttf"),
    "IPAexGothic": ("matplotlib_fontja", "fonts/ipaexg.ttf"),
    "Roboto Light": ("font_roboto", "files/Roboto-Light.ttf"),
    "Roboto": ("font_roboto", "files/Roboto-Regular.ttf"),
    "Source Serif Pro": ("font_source_serif_pro", "files/SourceSerifPro-Regular.ttf"),
}


def model_file() -> Path:
    """PP-OCRv4's recognition network as ONNX, in the package rapidocr-onnxruntime.

    Raises:
        InvalidModelSpec: the package is not installed, or has no such file.
    """
    return _file("rapidocr_onnxruntime", "models/ch_PP-OCRv4_rec_infer.onnx")


def font_file(name: str) -> Path:
    """A font by its name.

    Raises:
        InvalidModelSpec: the package that holds it is not installed, or has no such file.
    """
    return _file(*_FONTS[name])


@functools.cache
def font_digest(name: str) -> str:
    """Digest of a font's file."""
    return digest_file(font_file(name))


def _file(package: str, inside: str) -> Path:
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found is not None else None
    path = Path(folders[0]) / inside if folders else None
    if path is None or not path.is_file():
        raise InvalidModelSpec(
            expected=f"{inside} of the installed package {package!r}, for the example model `ocr`",
            found="the package is not installed" if path is None else f"no file {path}",
            remedy="pip install 'regiolect[ocr]' (Python 3.11 or 3.12)",
        )
    return path

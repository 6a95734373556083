"""Parts of a world model as graphs: see `jumpy_mbrl.adapters.export`."""

from jumpy_mbrl.adapters.export import Part as Part
from jumpy_mbrl.adapters.export import export, export_onnx

__all__ = ["export", "export_onnx"]

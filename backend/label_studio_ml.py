"""The address that users of label-studio-ml write into their `model.py`; see `backend.web.label_studio_ml`."""

from backend.web.label_studio_ml import MaskAL as MaskAL

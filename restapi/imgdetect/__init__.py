"""Self-hosted image detection over HTTP."""

from imgdetect.config import limit_native_libraries

__version__ = "0.1.0"

# OpenCV reads its pixel limit once, when it is first imported, so this has to come before any import of cv2.
limit_native_libraries()

"""Tests of fasthaar: the same answers as cv2, hostile files, the API."""

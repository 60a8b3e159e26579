"""The detector in the web process itself: `gunicorn -k gthread --threads 4 benchmarks.http.in_process:app`."""

import os
import signal

import cv2
import cv2.data
import numpy as np
from flask import Flask, jsonify, request

app = Flask(__name__)
cv2.setNumThreads(1)


@app.get("/healthz")
def health():
    """What a supervisor asks."""
    return jsonify(status="OK")


@app.post("/detect")
def detect():
    """A look, as the service does it with the same parameters."""
    image = cv2.imdecode(np.frombuffer(request.get_data(), np.uint8), cv2.IMREAD_GRAYSCALE)
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    found = 0
    for _ in request.args.get("rotations", "0").split(","):
        found += len(cascade.detectMultiScale(image, request.args.get("scale_factor", 1.1, float), 3))
    return jsonify(boxes=found)


@app.post("/crash")
def crash():
    """What a library does that writes out of bounds."""
    os.kill(os.getpid(), signal.SIGSEGV)
    return ""

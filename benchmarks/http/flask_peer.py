"""What one would write on an afternoon with Flask: `gunicorn -w 2 benchmarks.http.flask_peer:app`."""

import os
import uuid
from pathlib import Path

import cv2
import cv2.data
import numpy as np
from flask import Flask, jsonify, request

FOLDER = os.environ["PEER_FOLDER"]
app = Flask(__name__)
cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")


@app.post("/image")
def upload():
    name = uuid.uuid4().hex
    data = request.get_data()
    Path(FOLDER, f"{name}.jpg").write_bytes(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    boxes = cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.1, 3)
    for x, y, width, height in boxes:
        cv2.rectangle(image, (x, y), (x + width, y + height), (0, 0, 255), 2)
    cv2.imwrite(f"{FOLDER}/{name}.processed.jpg", image)
    return jsonify(id=name, boxes=[[int(side) for side in box] for box in boxes])

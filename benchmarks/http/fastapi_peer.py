"""The same with FastAPI: `uvicorn --workers 2 benchmarks.http.fastapi_peer:app`."""

import os
import uuid
from pathlib import Path

import cv2
import cv2.data
import numpy as np
from fastapi import Body, FastAPI

FOLDER = os.environ["PEER_FOLDER"]
app = FastAPI()


@app.post("/image")
def upload(data: bytes = Body(media_type="image/jpeg")):
    name = uuid.uuid4().hex
    Path(FOLDER, f"{name}.jpg").write_bytes(data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    # Views run in threads, which must not share a classifier.
    cascade = cv2.CascadeClassifier(cv2.data.haarcascades + "haarcascade_frontalface_default.xml")
    boxes = cascade.detectMultiScale(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), 1.1, 3)
    for x, y, width, height in boxes:
        cv2.rectangle(image, (x, y), (x + width, y + height), (0, 0, 255), 2)
    cv2.imwrite(f"{FOLDER}/{name}.processed.jpg", image)
    return {"id": name, "boxes": [[int(side) for side in box] for box in boxes]}

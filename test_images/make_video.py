"""Make video/astronaut.mp4: the camera moves over the photograph, away from the face and back.

.venv/bin/python test_images/make_video.py
"""

import math
from pathlib import Path

import av
import cv2

HERE = Path(__file__).parent
WIDTH, HEIGHT, RATE, FRAMES = 320, 240, 15, 45


def main() -> None:
    photo = cv2.imread(str(HERE / "input" / "astronaut.jpg"))
    with av.open(str(HERE / "video" / "astronaut.mp4"), "w", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=RATE, options={"crf": "28", "preset": "slow"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FRAMES):
            way = (1 - math.cos(2 * math.pi * number / FRAMES)) / 2
            left, top = round(150 * (1 - way)), round(100 * way / 2)
            frame = av.VideoFrame.from_ndarray(photo[top : top + HEIGHT, left : left + WIDTH], format="bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


if __name__ == "__main__":
    main()

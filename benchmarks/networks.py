"""What the service costs beyond a network: `python -m benchmarks.networks [--quick]` prints a table.

The network has MobileNetV2's layers and size with weights drawn at random: what it answers means nothing, how long it
takes does. Ratios are taken within one run, rounds of the two sides alternating.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "restapi"))

import numpy as np  # noqa: E402
import requests  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

from benchmarks.http.load import post  # noqa: E402
from benchmarks.pictures import distinct  # noqa: E402
from benchmarks.service import NO_CACHE, percentile  # noqa: E402
from imgdetect.detection import DetectOptions  # noqa: E402
from imgdetect.pipeline import Looker  # noqa: E402
from tests.live_server import LiveServer  # noqa: E402
from tests.onnx_models import Graph, save  # noqa: E402

# Expansion, channels, repeats and the first stride of each group (Sandler et al. 2018, table 2).
_GROUPS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
CLIENTS = 8


def build(path: Path) -> Path:
    """Write the network: 224x224, 3.5 million parameters, 1,000 classes."""
    graph, drawn = Graph(), np.random.default_rng(1)

    def convolved(value: str, channels: int, to: int, side: int = 1, stride: int = 1, groups: int = 1) -> str:
        weights = drawn.normal(0, (2 / (side * side * channels / groups)) ** 0.5, (to, channels // groups, side, side))
        kernel = graph.constant(weights), graph.constant(np.zeros(to))
        pads = [side // 2] * 4
        return graph.node(
            "Conv", value, *kernel, kernel_shape=[side, side], strides=[stride] * 2, pads=pads, group=groups
        )

    def clipped(value: str) -> str:
        return graph.node("Clip", value, graph.constant(0.0), graph.constant(6.0))

    value, channels = clipped(convolved("image", 3, 32, 3, 2)), 32
    for expansion, to, repeats, first in _GROUPS:
        for n in range(repeats):
            stride, wide = first if n == 0 else 1, channels * expansion
            inner = clipped(convolved(value, channels, wide)) if expansion > 1 else value
            inner = convolved(clipped(convolved(inner, wide, wide, 3, stride, wide)), wide, to)
            value = graph.node("Add", value, inner) if stride == 1 and channels == to else inner
            channels = to
    value = graph.node("Flatten", graph.node("GlobalAveragePool", clipped(convolved(value, channels, 1280))))
    weights = graph.constant(drawn.normal(0, 0.02, (1280, 1000))), graph.constant(np.zeros(1000))
    graph.output("scores", graph.node("Softmax", graph.node("Gemm", value, *weights), axis=1), [1, 1000])
    picture = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 224, 224])
    return save(path, graph, picture, {"family": "classification", "transform": "torchvision"})


def looker(url: str) -> Looker:
    """What a child looks with."""
    return Looker({"net": url}, 2_100_000)


def _loop(url: str, seconds: float, start: int, counts: multiprocessing.Queue) -> None:
    made, pictures = looker(url), distinct(start)
    options = made._detector("net").resolve(DetectOptions("net"))
    made.look(next(pictures), options)
    done, until = 0, time.monotonic() + seconds
    while time.monotonic() < until:
        made.look(next(pictures), options)
        done += 1
    counts.put(done)


def bare_rate(url: str, seconds: float) -> float:
    """Pictures per second of two processes that do nothing but look."""
    spawning = multiprocessing.get_context("spawn")
    counts: multiprocessing.Queue = spawning.Queue()
    loops = [spawning.Process(target=_loop, args=(url, seconds, i << 32, counts)) for i in range(2)]
    for loop in loops:
        loop.start()
    total = sum(counts.get() for _ in loops)
    for loop in loops:
        loop.join()
    return total / seconds


def served_rate(url: str, seconds: float) -> float:
    """Pictures per second that the service looks at for eight clients of wrk, which takes little for itself."""
    return post(
        url, "/api/v1/objectdetection/detect?detector=net", next(distinct()), seconds, CLIENTS, distinct=True
    ).per_second


def at_rate(url: str, rate: float, seconds: float) -> list[float]:
    """Milliseconds of each of the classifications that are asked for at an even rate, by whoever is free."""
    times: list[float] = []
    started, numbers, lock = time.monotonic() + 0.2, iter(range(int(rate * seconds))), threading.Lock()

    def client(index: int) -> None:
        session, pictures = requests.Session(), distinct((900 + index) << 32)
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            body, due = next(pictures), started + number / rate
            time.sleep(max(0.0, due - time.monotonic()))
            session.post(f"{url}/api/v1/classify", files={"file": ("a.jpg", body)}, timeout=60).raise_for_status()
            times.append((time.monotonic() - due) * 1000)  # whoever comes late has waited too

    _together(client)
    return times


def _together(client) -> None:
    threads = [threading.Thread(target=client, args=(i,)) for i in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def rows(folder: Path, rounds: int, seconds: float) -> Iterator[tuple[str, str]]:
    """What was measured."""
    url = f"onnx:{build(folder / 'net.onnx')}"
    settings = {"IMGDETECT_DETECTORS": f"net={url}", "IMGDETECT_WORKERS": "2", "IMGDETECT_LOG_LEVEL": "warning"}
    with LiveServer(**settings | NO_CACHE) as server:
        served_rate(server.url, 2)
        pairs = [(bare_rate(url, seconds), served_rate(server.url, seconds)) for _ in range(rounds)]
        capacity = statistics.median(served for _, served in pairs)
        yield "bare loop, two processes", f"{statistics.median(bare for bare, _ in pairs):.1f} pictures/s"
        yield "served to eight clients", f"{capacity:.1f} pictures/s"
        added = statistics.median(bare / served - 1 for bare, served in pairs)
        yield "added to the time of a picture at saturation (goal: at most 10 %)", f"{100 * added:.0f} %"
        times = at_rate(server.url, 0.7 * capacity, 2 * seconds)
        yield (
            f"POST /classify at 70 % of that, p95 of {len(times)} (goal: under 200 ms)",
            f"{percentile(times, 0.95):.0f} ms",
        )
        batch, pictures = [], distinct(990 << 32)
        for _ in range(2 * rounds):
            files = [("files", (f"{n}.jpg", io.BytesIO(next(pictures)))) for n in range(10)]
            begun = time.perf_counter()
            requests.post(f"{server.url}/api/v1/classify-batch", files=files, timeout=60).raise_for_status()
            batch.append((time.perf_counter() - begun) * 100)
        yield (
            "POST /classify-batch of ten, for each picture, p95 (goal: under 500 ms)",
            f"{percentile(batch, 0.95):.0f} ms",
        )
    with LiveServer(**settings) as server:
        session, body, hits = requests.Session(), next(distinct()), []
        for _ in range(100 * rounds):
            begun = time.perf_counter()
            session.post(
                f"{server.url}/api/v1/classify", files={"file": ("a.jpg", body)}, timeout=60
            ).raise_for_status()
            hits.append((time.perf_counter() - begun) * 1000)
        yield "the same picture again, p95 (goal: under 10 ms)", f"{percentile(hits[1:], 0.95):.1f} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, to see that it works")
    quick = parser.parse_args().quick
    print("| what | measured |\n| --- | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for what, measured in rows(Path(folder), *((1, 3.0) if quick else (5, 6.0))):
            print(f"| {what} | {measured} |", flush=True)


if __name__ == "__main__":
    main()

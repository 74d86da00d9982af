"""Draw the charts of a report, without its images: ``python docs/how-to/report_charts.py REPORT.HTML``.

Needs Chromium, which renders the page.
"""  # noqa: INP001

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

HERE = Path(__file__).parent
WIDTH_PX, HEIGHT_PX = 1100, 1000


def main() -> None:
    """Write ``report-charts.png`` next to this file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    page = parser.parse_args().report.read_text(encoding="utf-8")
    style = re.search(r"<style>.*?</style>", page, re.DOTALL)
    charts = re.search(r'<div class="charts">.*?</div>\s*<h3>', page, re.DOTALL)
    if not style or not charts:
        raise SystemExit("no charts in this page")
    body = charts[0].removesuffix("<h3>")
    with tempfile.TemporaryDirectory() as folder:
        cut, shot = Path(folder, "charts.html"), Path(folder, "charts.png")
        cut.write_text(
            f"<!DOCTYPE html><meta charset='utf-8'>{style[0]}<main>{body}</main>", encoding="utf-8"
        )
        window = f"--window-size={WIDTH_PX},{HEIGHT_PX}"
        command = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", window]
        subprocess.run(
            [*command, f"--screenshot={shot}", cut.as_uri()], check=True, capture_output=True
        )
        image = Image.open(shot).convert("RGB")
    empty = Image.new("RGB", image.size, image.getpixel((0, HEIGHT_PX - 1)))
    box = ImageChops.difference(image, empty).getbbox()
    if box is None:
        raise SystemExit("the page is empty")
    image.crop(box).quantize(64).save(HERE / "report-charts.png", optimize=True)


if __name__ == "__main__":
    main()

"""Take a picture of a report in Chromium: ``python scripts/screenshot.py report.html docs/explanation.png``."""

import argparse
import os
import shutil
import sys
from pathlib import Path

CHROMIUM = ("chromium", "chromium-browser", "google-chrome")


def find_chromium() -> str:
    """Return the path of the browser: the variable CHROMIUM, or the browser of the system."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, CHROMIUM)), None)
    if path is None:
        sys.exit("error: there is no Chromium: apt-get install chromium, or say where it is in the variable CHROMIUM")
    return path


def parse() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="HTML file of pyramidion-explain")
    parser.add_argument("output", type=Path, help="PNG file to write")
    parser.add_argument("--stage", default="seen by the decoder", help="what shades the document")
    parser.add_argument("--word", type=int, help="word of the summary, from 0, whose sources are lit")
    parser.add_argument("--dark", action="store_true", help="dark mode")
    parser.add_argument(
        "--size", type=int, nargs=2, default=(1280, 860), metavar=("WIDTH", "HEIGHT"), help="of the window, in pixels"
    )
    return parser.parse_args()


def main() -> None:
    """Open the report, select the view, and write the picture."""
    from playwright.sync_api import sync_playwright

    args = parse()
    width, height = args.size
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), chromium_sandbox=os.geteuid() != 0)
        scheme = "dark" if args.dark else "light"
        page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
        page.goto(args.report.resolve().as_uri())
        page.get_by_role("radio", name=args.stage).check()
        if args.word is not None:
            page.locator("#summary .word").nth(args.word).hover()
        page.wait_for_timeout(500)
        page.screenshot(path=args.output)
        browser.close()


if __name__ == "__main__":
    main()

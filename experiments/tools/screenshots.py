"""Take the pictures of the documentation: a report, the explorer, and the page of a stream.

    $ make demo
    $ python -m experiments.tools.screenshots --report demo/report.html --model demo/adapted \\
          --data demo/sessions
    $ python -m experiments.tools.screenshots --report report.html --name report_mine \\
          --session stevenson_2011/m1_stevenson_2011

Needs playwright and a Chromium (playwright install chromium).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

from experiments.tools.browser import chromium
from poyo_jax.cli.program import run_command
from poyo_jax.cli.sessions import sessions_at
from poyo_jax.errors import ConfigError

WIDTH, HEIGHT = 1280, 860  # pixels


@dataclass(frozen=True, kw_only=True)
class Screenshots:
    """Take the pictures of the documentation."""

    report: Path
    """Page that `python -m poyo_jax report` or the demo wrote."""
    name: str = "report"
    """Name of its pictures."""
    session: str | None = None
    """Session to show; by default the first."""
    model: Path | None = None
    """Model to show in the explorer and in a stream, too."""
    data: Path | None = None
    """Sessions for these."""
    out: Path = Path("docs/images")
    """Folder for the pictures."""


def main(arguments: Sequence[str] | None = None) -> None:
    run_command(screenshots, Screenshots, arguments, description=__doc__)


def screenshots(options: Screenshots) -> None:
    if not options.report.is_file():
        raise ConfigError(
            f"there is no page {options.report}; write it with python -m poyo_jax report, or make"
            " demo."
        )
    if (options.model is None) != (options.data is None):
        raise ConfigError("the explorer needs both --model and --data; give the other one, too.")
    options.out.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        page = opened(browser, options.report.absolute().as_uri())
        if options.session is not None:
            page.select_option("#session", options.session)
            page.wait_for_timeout(500)
        page.screenshot(path=options.out / f"{options.name}.png")
        if page.locator("#fit_units svg").count():
            page.locator("#fit_step").fill("1")  # after the first steps
            page.wait_for_timeout(500)
            page.locator("#fits").screenshot(path=options.out / f"{options.name}_fit.png")
        if options.model is not None and options.data is not None:
            picture_of_explorer(browser, options.model, options.data, options.out / "explorer.png")
            picture_of_stream(browser, options.model, options.data, options.out / "watch.png")
    print(f"written to {options.out}")


def picture_of_explorer(browser: Any, model: Path, data: Path, path: Path) -> None:
    """The explorer after two units were silenced."""
    from poyo_jax import load
    from poyo_jax.explore.explorer import Explorer
    from poyo_jax.explore.server import ExplorerServer

    explorer = Explorer(load(model), sessions_at(data))
    with ExplorerServer(explorer) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = opened(browser, server.address)
        page.locator("#error_now", has_text=re.compile(r"\d")).wait_for(timeout=120_000)
        for row in (0.1, 0.3):
            page.locator("#raster").click(
                position={"x": 300, "y": row * page.locator("#raster").bounding_box()["height"]}
            )
            page.click("#silence")
        page.wait_for_timeout(1500)
        page.screenshot(path=path)
        server.shutdown()
    explorer.close()


def picture_of_stream(browser: Any, model: Path, data: Path, path: Path) -> None:
    """The page of a stream after 20 s of the first session, which is played without waiting."""
    from poyo_jax import StreamDecoder, load
    from poyo_jax.realtime import Replay, follow
    from poyo_jax.watch.monitor import Monitor
    from poyo_jax.watch.server import WatchServer

    session = sessions_at(data)[0]
    stream = StreamDecoder(load(model), session)
    stream.warm_up()
    monitor = Monitor(session.id, tuple(session.unit_ids), stream.hop, stream.queries)
    follow(stream, Replay(session, speed=None), [monitor], updates=400)
    with WatchServer(monitor) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        page = opened(browser, server.address)
        page.locator("#updates", has_text="400").wait_for()
        page.screenshot(path=path, full_page=True)
        server.shutdown()


def opened(browser: Any, address: str) -> Any:
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
    page.goto(address)
    page.wait_for_timeout(1500)
    return page


if __name__ == "__main__":
    main()
